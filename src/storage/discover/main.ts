import process from 'node:process'
import { uuidPattern } from '../../api/names.ts'
import { closeFd, firstNames, look, openDirectory, openSubdirectory, type Directory } from '../../system/directory.ts'
import { openChannel } from '../channel.ts'
import type { DiscoverAgentFunctions, DiscoverFunctions } from '../discovery.ts'
import { outcomeOf } from '../outcome.ts'

// Looks for oVirt domains below a mount root. A process of its own: the mount may hang.

const isUuid = new RegExp(uuidPattern)

/** Each gets a process of its own. */
const maxDomains = 200

async function isDomain (root: Directory, name: string): Promise<boolean> {
  const directory = await openSubdirectory(root, name)
  try {
    return (await look(directory, 'dom_md'))?.isDirectory() === true && await look(directory, 'dom_md/metadata') !== undefined
  } finally {
    await closeFd(directory.fd)
  }
}

const functions: DiscoverFunctions = {
  // vdsm names the directory of a domain by its id; whether its metadata say the same, the domain's own process finds out
  find: async root => await outcomeOf(`Looking for domains in ${root}`, async () => {
    const found: string[] = []
    const directory = await openDirectory(root)
    try {
      // a link is no domain: whoever shares the root could have it lead anywhere
      for (const name of await firstNames(directory, maxDomains, ({ name }) => isUuid.test(name))) {
        if ((await look(directory, name))?.isDirectory() === true && await isDomain(directory, name)) found.push(name)
      }
    } finally {
      await closeFd(directory.fd)
    }
    return found
  }, error => { console.error(error) })
}

const agent = openChannel<DiscoverAgentFunctions, DiscoverFunctions>(process, functions)

// SIGKILL, because exit() waits for threads that are blocked in a dead file system
process.on('disconnect', () => { process.kill(process.pid, 'SIGKILL') })

agent.ready.asEvent()
