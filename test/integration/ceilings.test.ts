import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { copySpec, startAgent } from '../helpers/agent.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { makeDisk, MiB, sh } from '../helpers/images.ts'
import { commandLine, descendants, until } from '../helpers/processes.ts'

t.setTimeout(300_000)

const path = await temporaryDirectory(t)

t.test('copies share the ceilings of the host and of the domain, and give way to other programs', async t => {
  const agent = await startAgent(t, {
    domains: [{ id: 'local', path, create: true, bandwidth: 4 * MiB }],
    copy: { bandwidth: 100 * MiB, nice: 7, ioPriority: 'idle' }
  })
  await makeDisk(join(path, 'source.raw'), 64 * MiB)
  const bandwidthOf = async (id: string) => (await agent.request<{ progress?: { bandwidth?: number } }>('GET', `/tasks/${id}`)).body.progress?.bandwidth
  const settle = async (shares: Record<string, number>) => {
    for (const [id, bandwidth] of Object.entries(shares)) await until(async () => await bandwidthOf(id) === bandwidth, `${id} to have ${bandwidth}`)
  }
  await agent.accept('a', copySpec('source.raw', 'a.raw'))
  await settle({ a: 4 * MiB })
  await agent.accept('b', copySpec('source.raw', 'b.raw', { bandwidth: MiB }))
  await settle({ a: 3 * MiB, b: MiB })
  await agent.request('PATCH', '/tasks/b', { body: { bandwidth: null } })
  await settle({ a: 2 * MiB, b: 2 * MiB })

  // one that is about to begin has another command line, and one that ends meanwhile tells nothing
  const { nice, io } = await until(async () => {
    const convert = descendants(agent.pid).find(pid => /^\S*qemu-img convert/.test(commandLine(pid)))
    if (convert === undefined) return undefined
    try {
      return { nice: (await readFile(`/proc/${convert}/stat`, 'utf8')).split(') ').at(-1)?.split(' ')[16], io: await sh('ionice', '-p', String(convert)) }
    } catch {
      return undefined
    }
  }, 'a qemu-img at work')
  t.equal(nice, '7', 'its nice value')
  t.match(io, /^idle/)

  await agent.request('DELETE', '/tasks/b')
  await agent.finished('b')
  await settle({ a: 4 * MiB })
  const { body } = await agent.image('local', 'a.raw')
  t.notOk(body.fixes.some(({ task }) => 'bandwidth' in task), 'a ceiling is the host\'s, and no part of the command')
})
