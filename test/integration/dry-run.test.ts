import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { copySpec, deleteSpec, mendSpec, stalled, startAgent, type AgentProcess } from '../helpers/agent.ts'
import { listing, temporaryDirectory } from '../helpers/directory.ts'
import { makeDisk, MiB, sh } from '../helpers/images.ts'
import { commandLine, descendants, until } from '../helpers/processes.ts'

t.setTimeout(300_000)

const rounds = 4

async function scene (t: Test): Promise<{ agent: AgentProcess, path: string }> {
  const path = await temporaryDirectory(t)
  const agent = await startAgent(t, { domains: [{ id: 'local', path, create: true }], copy: { clone: false } })
  await makeDisk(join(path, 'source.raw'), 3 * MiB)
  return { agent, path }
}

const dryRun = async (agent: AgentProcess, spec: object) =>
  await agent.request<{ plan?: object, code?: string, detail?: string }>('PUT', '/tasks/dry?dryRun=true', { body: spec })
/** Asks again and again what a command would do, until it is told to stop. */
function askOn (agent: AgentProcess, spec: object): () => Promise<unknown> {
  const over = new AbortController()
  const asking = Array.from({ length: 3 }, async () => {
    const answers = []
    while (!over.signal.aborted) answers.push((await dryRun(agent, spec)).status)
    return answers
  })
  return async () => {
    over.abort()
    return (await Promise.all(asking)).flat()
  }
}
/** Makes a disk whose block status takes a moment. */
async function makeFragmented (path: string): Promise<void> {
  await sh('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', 'cluster_size=512', path, '16M')
  await sh('qemu-io', '-f', 'qcow2', ...Array.from({ length: 512 }, (_, index) => ['-c', `write -q ${index * 32}k 512`]).flat(), path)
}

t.test('a dry run changes nothing in the domain, whatever comes of it', async t => {
  const { agent, path } = await scene(t)
  t.match(await agent.done('copy', copySpec('source.raw', 'there.raw')), { state: 'succeeded' })
  await agent.accept('open', copySpec('source.raw', 'open.raw', { bandwidth: stalled }))
  await agent.untilDone('local', 'open.raw', MiB)
  await agent.request('DELETE', '/tasks/open')
  await agent.finished('open')
  await makeDisk(join(path, 'never-leased.raw'), MiB)
  const before = await listing(path)
  for (const [outcome, spec] of [
    ['copy', copySpec('never-leased.raw', 'new.qcow2', { verify: true })],
    ['copy', copySpec('never-leased.raw', 'new.raw', { target: { domain: 'local', image: 'new.raw', allocation: 'preallocated' } })],
    ['replace', copySpec('never-leased.raw', 'there.raw', { onExisting: 'replace' })],
    ['already-done', copySpec('source.raw', 'there.raw')],
    ['continue', mendSpec('open.raw')],
    ['delete', deleteSpec('never-leased.raw')],
    ['create', { kind: 'storage.createImage', domain: 'local', image: 'made.qcow2', virtualSize: MiB }]
  ] as const) t.match(await dryRun(agent, spec), { status: 200, body: { plan: { outcome } } }, outcome)
  t.match(await dryRun(agent, copySpec('absent.raw', 'new.raw')), { status: 404 })
  t.match(await dryRun(agent, copySpec('never-leased.raw', 'there.raw')), { status: 409, body: { code: 'target-exists' } })
  t.strictSame(await listing(path), before)
})

t.test('a real command beside dry runs of the same is never refused', async t => {
  const { agent, path } = await scene(t)
  await makeFragmented(join(path, 'fragmented.qcow2'))
  for (let round = 0; round < rounds; round++) {
    const target = `copy-${round}.raw`
    const copy = copySpec('source.raw', target)
    let stop = askOn(agent, copy)
    t.match(await agent.done(target, copy), { state: 'succeeded' }, 'a copy')
    await stop()
    const replace = copySpec('fragmented.qcow2', target, { onExisting: 'replace', target: { domain: 'local', image: target, format: 'raw' } })
    stop = askOn(agent, replace)
    t.match(await agent.done(`${target}-replace`, replace), { state: 'succeeded' }, 'a replacement')
    await stop()
    // what is looked at is what goes
    await sh('cp', join(path, 'fragmented.qcow2'), join(path, `gone-${round}.qcow2`))
    stop = askOn(agent, copySpec(`gone-${round}.qcow2`, 'nowhere.qcow2'))
    await until(() => descendants(agent.pid).some(pid => commandLine(pid) === 'dry run'), 'a dry run')
    t.match(await agent.done(`gone-${round}`, deleteSpec(`gone-${round}.qcow2`)), { state: 'succeeded' }, 'a deletion')
    await stop()
  }
})

t.test('a dry run takes no space from a real command', async t => {
  const path = await temporaryDirectory(t)
  const agent = await startAgent(t, {
    domains: [{ id: 'small', path: join(path, 'small'), create: true }, { id: 'local', path: join(path, 'large'), create: true }],
    mounts: [{ path: await made(join(path, 'small')), bytes: 24 * MiB }]
  })
  await makeDisk(join(path, 'large', 'fits.raw'), 16 * MiB, { blockBytes: 16 * MiB })
  const to = (image: string) => copySpec('fits.raw', '', { target: { domain: 'small', image } })
  for (let round = 0; round < rounds; round++) {
    const stop = askOn(agent, to('asked.raw'))
    await until(() => descendants(agent.pid).some(pid => commandLine(pid) === 'dry run'), 'a dry run')
    t.match(await agent.done(`fits-${round}`, to(`fits-${round}.raw`)), { state: 'succeeded' })
    await stop()
    t.match(await agent.done(`fits-${round}-delete`, { ...deleteSpec(`fits-${round}.raw`), domain: 'small' }), { state: 'succeeded' })
  }
})

t.test('a dry run that is killed leaves nothing', async t => {
  const { agent, path } = await scene(t)
  await makeFragmented(join(path, 'fragmented.qcow2'))
  const before = await listing(path)
  for (let round = 0; round < rounds; round++) {
    const asked = dryRun(agent, copySpec('fragmented.qcow2', 'new.raw', { target: { domain: 'local', image: 'new.raw', format: 'raw' } }))
    const pid = await until(() => descendants(agent.pid).find(pid => commandLine(pid) === 'dry run'), 'a dry run')
    process.kill(pid, 'SIGKILL')
    t.match(await asked, { status: 500, body: { code: 'storage-process-died', detail: /SIGKILL/ } })
  }
  t.strictSame(await listing(path), before)
  t.strictSame(await readdir(join(path, '.vdsm-tasks/leases')), [])
})

async function made (path: string): Promise<string> {
  await sh('mkdir', '-p', path)
  return path
}
