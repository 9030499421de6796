import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import { uuidPattern } from '../../api/names.ts'
import { hasCode } from '../../system/directory.ts'
import { openChannel } from '../channel.ts'
import type { DiscoverAgentFunctions, DiscoverFunctions } from '../discovery.ts'
import { outcomeOf } from '../outcome.ts'

// Looks for oVirt domains below a mount root. A process of its own: the mount may hang.

const isUuid = new RegExp(uuidPattern)

const functions: DiscoverFunctions = {
  // vdsm names the directory of a domain by its id; whether its metadata say the same, the domain's own process finds out
  find: async root => await outcomeOf(`Looking for domains in ${root}`, async () => {
    const found: string[] = []
    for (const name of (await readdir(root)).filter(name => isUuid.test(name)).sort()) {
      const isDomain = await stat(join(root, name, 'dom_md', 'metadata')).then(() => true, (error: unknown) => {
        if (hasCode(error, 'ENOENT', 'ENOTDIR')) return false
        throw error
      })
      if (isDomain) found.push(name)
    }
    return found
  }, error => { console.error(error) })
}

const agent = openChannel<DiscoverAgentFunctions, DiscoverFunctions>(process, functions)

// SIGKILL, because exit() waits for threads that are blocked in a dead file system
process.on('disconnect', () => { process.kill(process.pid, 'SIGKILL') })

agent.ready.asEvent()
