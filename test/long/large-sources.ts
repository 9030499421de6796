// Copies what is large in number: a chain of 200 layers on a disk of 2 TiB, and a raw file of a million fragments. It tells how
// long they take and how much memory they need at most: npx tap run -j1 test/long/large-sources.ts
// VDSM_TASKS_LAYERS and VDSM_TASKS_FRAGMENTS make it smaller.
import { readFileSync, statfsSync } from 'node:fs'
import { mkdir, open } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { copySpec, startAgent, type AgentProcess } from '../helpers/agent.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { KiB, makeOld, MiB, sh } from '../helpers/images.ts'

t.setTimeout(1_200_000)

const layers = Number(process.env['VDSM_TASKS_LAYERS'] ?? 200)
const fragments = Number(process.env['VDSM_TASKS_FRAGMENTS'] ?? 1_000_000)

/** The most memory that a process has had, in bytes; 0 of one that is gone. */
function peakOf (pid: number): number {
  try {
    return Number(/^VmHWM:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * KiB
  } catch {
    return 0
  }
}

interface Measured {
  state: string
  seconds: number
  firstMovedSeconds: number
  workerBytes: number
  qemuBytes: number
}

/** Does a task, and looks at its processes all the time. */
async function measure (agent: AgentProcess, id: string, spec: object): Promise<Measured> {
  const begin = performance.now()
  const seconds = () => (performance.now() - begin) / 1000
  let [workerBytes, qemuBytes, firstMovedSeconds] = [0, 0, 0]
  await agent.request('PUT', `/tasks/${id}`, { body: spec, headers: { prefer: 'respond-async' } })
  for (;;) {
    const { state, progress, endedAt } = await agent.task(id)
    for (const pid of agent.children('copy/main.js')) workerBytes = Math.max(workerBytes, peakOf(pid))
    for (const pid of agent.children('qemu-img')) qemuBytes = Math.max(qemuBytes, peakOf(pid))
    if (firstMovedSeconds === 0 && Number(progress?.bytesMoved ?? 0) > 0) firstMovedSeconds = seconds()
    if (endedAt !== undefined) return { state, seconds: seconds(), firstMovedSeconds: firstMovedSeconds || seconds(), workerBytes, qemuBytes }
    await sleep(20)
  }
}

function tell (t: Test, what: string, { state, seconds, firstMovedSeconds, workerBytes, qemuBytes }: Measured): void {
  const mebibytes = (bytes: number) => `${Math.round(bytes / MiB)} MiB`
  t.equal(state, 'succeeded', what)
  t.ok(qemuBytes < 150 * MiB, `${what}: qemu-img has ${mebibytes(qemuBytes)} at most`)
  t.ok(workerBytes < 100 * MiB, `${what}: the worker has ${mebibytes(workerBytes)} at most`)
  t.comment(`${what}: ${seconds.toFixed(1)} s, the first window durable after ${firstMovedSeconds.toFixed(1)} s, ` +
    `worker ${mebibytes(workerBytes)}, qemu-img ${mebibytes(qemuBytes)}`)
}

t.test(`a chain of ${layers} layers on 2 TiB is copied and compared`, async t => {
  const path = await temporaryDirectory(t)
  const agent = await startAgent(t, { domains: [{ id: 'local', path: join(path, 'domain'), create: true }] })
  const at = (name: string) => join(path, 'domain', name)
  for (let layer = 0; layer < layers; layer++) {
    const file = at(`layer-${layer}.qcow2`)
    await sh('qemu-img', 'create', '-q', '-f', 'qcow2', file, '2T')
    // each layer has some of the disk, here and there; it gets its base afterwards, or all below it would be opened each time
    const writes = [layer * 10 * 1024, layer * 64].flatMap(megabyte => ['-c', `write -q -P ${layer % 255 + 1} ${megabyte}M 1M`])
    await sh('qemu-io', '-f', 'qcow2', ...writes, file)
    if (layer > 0) await sh('qemu-img', 'rebase', '-u', '-F', 'qcow2', '-b', `layer-${layer - 1}.qcow2`, '-f', 'qcow2', file)
    await makeOld(at(`layer-${layer}.qcow2`))
  }
  const top = `layer-${layers - 1}.qcow2`
  tell(t, 'the chain to raw', await measure(agent, 'raw', copySpec(top, 'flat.raw', { verify: true })))
  tell(t, 'the chain to qcow2', await measure(agent, 'qcow2', copySpec(top, 'flat.qcow2', { verify: true })))
  const verify = { kind: 'storage.verifyImage', domain: 'local', image: top, against: { domain: 'local', image: 'flat.qcow2' } }
  tell(t, 'the chain compared', await measure(agent, 'verify', verify))
  t.match((await agent.task('verify')).result, { identical: true })
})

const { bavail, bsize } = statfsSync(tmpdir())
const tooFull = bavail * bsize < fragments * 12 * KiB && 'there is too little space for it'

t.test(`a raw file of ${fragments} fragments is copied`, { skip: tooFull }, async t => {
  const path = await temporaryDirectory(t)
  await mkdir(join(path, 'domain'))
  const agent = await startAgent(t, { domains: [{ id: 'local', path: join(path, 'domain'), create: true }], copy: { clone: false } })
  const file = await open(join(path, 'domain', 'fragmented.raw'), 'w')
  const block = Buffer.alloc(4 * KiB, 0x5a)
  await file.truncate(fragments * 8 * KiB)
  for (let fragment = 0; fragment < fragments; fragment++) await file.write(block, 0, block.length, fragment * 8 * KiB)
  await file.sync()
  await file.close()
  await makeOld(join(path, 'domain', 'fragmented.raw'))
  tell(t, 'the fragments', await measure(agent, 'fragments', copySpec('fragmented.raw', 'copy.raw')))
})
