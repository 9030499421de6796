import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { copySpec, startAgent } from '../helpers/agent.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { makeDisk, MiB, sha256 } from '../helpers/images.ts'
import { killedQemuImg } from '../helpers/killed-programs.ts'
import { commandLine, openFiles, until } from '../helpers/processes.ts'

t.setTimeout(300_000)

const path = await temporaryDirectory(t)
const agent = await startAgent(t, { domains: [{ id: 'local', path, create: true }], copy: { windowSeconds: 0.5 } })
const at = (name: string) => agent.within(join(path, name))
await makeDisk(at('source.raw'), 24 * MiB)

const progress = async (id: string) => (await agent.task(id)).progress
const untilStalled = async (id: string) => await until(async () => {
  const told = await progress(id)
  return told?.stalledProcess !== undefined && told
}, `${id} to stall`)
/** Stops the process of the copy of this target that has this in its command line. Most live for an instant only. */
const stop = async (target: string, part: string) => await until(async () => {
  for (const pid of agent.children(part)) {
    try {
      process.kill(pid, 'SIGSTOP')
      // not what only starts it
      const isMeant = commandLine(pid).includes(part) && !commandLine(pid).includes('confine.pl') && openFiles(pid).some(({ path }) => path.endsWith(target))
      if (isMeant) return pid
      process.kill(pid, 'SIGCONT')
    } catch {
      // gone already
    }
  }
  return undefined
}, part)

for (const [id, part, name] of [['program', 'qemu-img convert', 'qemu-img'], ['worker', 'copy/main.js', 'copy worker']] as const) {
  t.test(`a copy whose ${id} is stopped says so and by which process, and goes on with it`, async t => {
    await agent.accept(id, copySpec('source.raw', `${id}.raw`, { bandwidth: 2 * MiB }))
    await agent.untilDone('local', `${id}.raw`, MiB)
    const pid = await stop('source.raw', part)
    t.teardown(() => { try { process.kill(pid, 'SIGCONT') } catch { /* it is gone */ } })
    const told = await untilStalled(id)
    t.match(told, { phase: 'copying', stalledSince: String, stalledProcess: { pid, name, state: 'stopped' }, bytesTotal: 24 * MiB })
    t.equal(told.bytesPerSecond, undefined, 'no rate')
    t.equal(told.etaSeconds, undefined, 'no estimate')
    process.kill(pid, 'SIGCONT')
    await until(async () => (await progress(id))?.stalledSince === undefined)
    await agent.request('PATCH', `/tasks/${id}`, { body: { bandwidth: null } })
    t.match(await agent.finished(id), { state: 'succeeded', cancelable: false })
    t.equal(await sha256(at(`${id}.raw`)), await sha256(at('source.raw')))
  })
}

t.test('a copy whose program is stopped can be canceled', async t => {
  await agent.accept('cancel', copySpec('source.raw', 'cancel.raw', { bandwidth: 2 * MiB }))
  await agent.untilDone('local', 'cancel.raw', MiB)
  await stop('source.raw', 'qemu-img convert')
  await untilStalled('cancel')
  await agent.request('DELETE', '/tasks/cancel')
  t.match(await agent.finished('cancel'), { state: 'canceled', cancelable: false })
})

t.test('a command that is not accepted because a process is stopped says by which', async t => {
  const top = await temporaryDirectory(t)
  await mkdir(join(top, 'bin'))
  const stopping = ['env', `PATH=${await killedQemuImg(join(top, 'bin'), 'map', 'STOP')}`]
  const agent = await startAgent(t, { domains: [{ id: 'local', path: join(top, 'images'), create: true }], tasks: { acceptDeadlineSeconds: 3 }, under: stopping })
  await makeDisk(agent.within(join(top, 'images/source.raw')), MiB)
  const body = copySpec('source.raw', 'accept.raw', { target: { domain: 'local', image: 'accept.raw', format: 'raw' } })
  const refused = await agent.request<{ stalledProcess: { pid: number } }>('PUT', '/tasks/accept', { body, headers: { prefer: 'wait=30' } })
  t.match([refused.status, refused.body], [202, { state: 'failed', error: { code: 'accept-overdue', stalledProcess: { name: 'qemu-img', state: 'stopped' } } }])
  t.match((await agent.task('accept')).progress, { stalledProcess: { state: 'stopped' } })
})
