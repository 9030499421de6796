import { mkdir, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { DomainStatus } from '../../src/api/domain.ts'
import { prepareArea } from '../../src/storage/area.ts'
import { total, type Ranges } from '../../src/storage/ranges.ts'
import { copySpec, mendSpec, startAgent, type AgentProcess } from '../helpers/agent.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { makeDisk, MiB, sha256 } from '../helpers/images.ts'
import { HangingStorage, MountSpace, unlessRoot } from '../helpers/mount-space.ts'
import { needs } from '../helpers/needs.ts'
import { descendants, isAlive, isStuck, openFiles, until, untilGone } from '../helpers/processes.ts'
import { Subscriber } from '../helpers/subscriber.ts'

needs('bindfs')

t.setTimeout(300_000)

// what is on the storage that can hang is always to be seen from below it
const size = 16 * MiB
const top = await temporaryDirectory(t)
const [below, between, at, local] = ['below', 'between', 'hung', 'local'].map(name => join(top, name)) as [string, string, string, string]
for (const path of [below, between, at, local]) await mkdir(path)
await prepareArea({ id: 'local', path: local }, true)
await prepareArea({ id: 'hung', path: below }, true)
await makeDisk(join(local, 'source.raw'), size)
await makeDisk(join(below, 'there.raw'), size)
await makeDisk(join(below, 'kept.raw'), MiB)

const inHung = (image: string) => ({ domain: 'hung', image })
const recordOf = async (image: string) => JSON.parse(await readFile(join(below, `.vdsm-tasks/copies/${image}.json`), 'utf8')) as { done: Ranges }

/** A storage that can hang, and a way to start agents on it, with two places for copies. */
async function scene (t: Test): Promise<{ storage: HangingStorage, start: (recovery?: 'own') => Promise<AgentProcess> }> {
  const space = await MountSpace.make(t)
  const storage = await HangingStorage.mount(space, { below, between, at })
  const start = async (recovery?: 'own') => {
    const agent = await startAgent(t, {
      domains: [{ id: 'local', path: local }, { id: 'hung', path: at }],
      under: space.enter,
      ...(recovery !== undefined && { recovery }),
      copy: { maxConcurrent: 2, windowSeconds: 0.5 }
    })
    // before the agent is killed, or its end would be waited for in vain
    t.teardown(() => { storage.resume() })
    return agent
  }
  return { storage, start }
}

const domain = async (agent: AgentProcess, id: string) => (await agent.request<DomainStatus>('GET', `/domains/${id}`)).body
const untilAvailable = async (agent: AgentProcess) => await until(async () => (await domain(agent, 'hung')).state === 'available', 'the domain to be available')

t.test('a storage that hangs disturbs nobody else, and whoever needs it is told in time', { skip: unlessRoot }, async t => {
  const { storage, start } = await scene(t)
  const agent = await start()
  await untilAvailable(agent)
  await agent.accept('to-hung', copySpec('source.raw', '', { target: inHung('copy.raw'), bandwidth: 2 * MiB }))
  await agent.accept('from-hung', copySpec('', 'from-hung.raw', { source: inHung('there.raw'), bandwidth: 2 * MiB }))
  await agent.untilDone('hung', 'copy.raw', 2 * MiB)
  const events = new Subscriber({ socketPath: agent.socketPath }, '/events')
  t.teardown(() => { events.close() })
  await events.event('synced')

  storage.hang()
  // another one stands ready for the next copy, and goes when nobody needs it
  const workers = agent.children('storage/copy/main.js').filter(pid => openFiles(pid).some(({ path }) => path.startsWith(at)))
  t.equal(workers.length, 2)
  let answered = 0
  const slow = ['images', 'images/there.raw', 'copies', 'fixes'].map(async path => {
    const reply = await agent.request('GET', `/domains/hung/${path}`)
    answered++
    return reply
  })
  for (const path of ['/healthz', '/agent', '/tasks', '/tasks/to-hung', '/domains/local', '/domains/local/images', '/domains/local/images/source.raw', '/domains/local/fixes']) {
    t.equal((await agent.request('GET', path)).status, 200, path)
  }
  t.equal(answered, 0, 'all of these before the deadline of the first of those')
  const dryRun = agent.request('PUT', '/tasks/any?dryRun=true', { body: copySpec('source.raw', '', { target: inHung('other.raw') }) })
  const refused = [
    { kind: 'storage.createImage', ...inHung('made.raw'), virtualSize: 512 },
    { kind: 'storage.deleteImage', ...inHung('kept.raw') },
    { kind: 'storage.verifyImage', ...inHung('there.raw'), against: { domain: 'local', image: 'source.raw' } },
    copySpec('source.raw', '', { target: inHung('copied.raw') }),
    copySpec('', 'copied.raw', { source: inHung('there.raw') })
  ].map(async (spec, index) => await agent.refused(`refused-${index}`, spec))
  // nobody can know how it is, but that it does not answer
  for (const reply of await Promise.all(slow)) t.match(reply, { status: 504, body: { code: 'storage-unresponsive' } })
  t.match(await domain(agent, 'hung'), { state: 'unresponsive' })
  t.match((await agent.request<{ items: DomainStatus[] }>('GET', '/domains')).body.items, [{ domain: 'local', state: 'available' }, { domain: 'hung', state: 'unresponsive' }])
  t.match(await agent.request('GET', '/readyz'), { status: 503, body: { ready: false, domains: [{ state: 'available' }, { state: 'unresponsive' }] } })
  t.match(await dryRun, { status: 504, body: { code: 'storage-unresponsive' } })
  for (const reply of await Promise.all(refused)) t.match(reply, { status: 504, body: { code: 'storage-unresponsive' } })

  // both places were taken by copies that hang: they count no more when that is known
  const stalled = await events.until(({ event, data }) => event === 'progress' && data?.['id'] === 'to-hung' && JSON.stringify(data).includes('stalledSince'))
  t.ok(stalled)
  const told = await agent.task('to-hung')
  t.match(told, { state: 'running', progress: { phase: 'copying', stalledSince: String } })
  t.equal(told.progress?.bytesPerSecond, undefined, 'no rate, no estimate')
  t.equal(told.progress?.etaSeconds, undefined)
  t.ok(Number(told.progress?.bytesDone) <= total((await recordOf('copy.raw')).done), 'and no more than is durable')
  t.match(await agent.done('meanwhile', copySpec('source.raw', 'meanwhile.raw')), { state: 'succeeded' })
  await events.until(({ event, data }) => event === 'task' && data?.['id'] === 'meanwhile' && data['state'] === 'succeeded')

  // a cancel is taken; it is over when the storage has let go, for until then the lease is held
  t.match(await agent.request('DELETE', '/tasks/from-hung'), { status: 202, body: { state: 'canceling' } })
  t.match(await agent.request('GET', '/tasks/from-hung', { headers: { prefer: 'wait=2' } }), { status: 200, body: { state: 'canceling' } })
  t.match((await agent.refused('again', copySpec('source.raw', 'from-hung.raw'))), { status: 409, body: { code: 'resource-busy', holder: 'from-hung' } })
  const running = agent.children('storage/copy/main.js')
  t.ok(workers.every(pid => running.includes(pid)), 'nobody who hangs was given up')

  storage.resume()
  await untilAvailable(agent)
  t.match(await agent.finished('to-hung'), { state: 'succeeded', result: { epoch: 1 } }, 'the copy went on by itself')
  t.equal(await sha256(join(below, 'copy.raw')), await sha256(join(local, 'source.raw')))
  t.match(await agent.finished('from-hung'), { state: 'canceled' })
  t.match(await agent.done('mend', mendSpec('from-hung.raw')), { state: 'succeeded', result: { epoch: 2 } })
  t.equal(await sha256(join(local, 'from-hung.raw')), await sha256(join(below, 'there.raw')))
  for (const image of ['made.raw', 'copied.raw', 'other.raw']) t.equal((await agent.image('hung', image)).status, 404, 'a refusal is one')
  t.equal((await agent.image('hung', 'kept.raw')).status, 200)
  t.same(await readdir(join(below, '.vdsm-tasks/parts')), [])
  t.equal((await agent.request('GET', '/readyz')).status, 200)
  events.close()
})

t.test('an agent on a storage that hangs stops, starts, and mends what it left when the storage is back', { skip: unlessRoot }, async t => {
  const { storage, start } = await scene(t)
  let agent = await start()
  await untilAvailable(agent)
  await agent.accept('left', copySpec('source.raw', '', { target: inHung('left.raw'), bandwidth: 2 * MiB }))
  await agent.untilDone('hung', 'left.raw', 2 * MiB)
  storage.hang()
  await until(async () => (await agent.task('left')).progress?.stalledSince, 'the copy to hang')
  const ofFirst = descendants(agent.pid)
  t.equal(await agent.stop(), 0, 'it waits for nobody who hangs')
  await until(() => ofFirst.filter(isAlive).every(isStuck), 'all to be gone that can be killed')
  t.ok(ofFirst.some(isAlive), 'who hangs is still there, and has the lease')

  // a start on a storage that hangs
  agent = await start()
  const tooEarly = agent.refused('too-early', mendSpec('left.raw', { domain: 'hung' }))
  t.match(await until(async () => {
    const found = await domain(agent, 'hung')
    return found.state !== 'starting' && found
  }), { state: 'unresponsive' })
  t.match(await agent.done('meanwhile', copySpec('source.raw', 'while-hung.raw')), { state: 'succeeded' })
  t.match(await tooEarly, { status: 504, body: { code: 'storage-unresponsive' } })

  storage.resume()
  await untilGone(...ofFirst)
  await untilAvailable(agent)
  t.match(await agent.done('mend', mendSpec('left.raw', { domain: 'hung' })), { state: 'succeeded', result: { epoch: 2 } })
  t.equal(await sha256(join(below, 'left.raw')), await sha256(join(local, 'source.raw')))
  t.same(await agent.fixes('hung'), [])
  t.same(await readdir(join(below, '.vdsm-tasks/parts')), [])
})

t.test('a copy whose accept step the deadline has ended is nobody\'s cancel: it goes on when the storage is back', { skip: unlessRoot }, async t => {
  const { storage, start } = await scene(t)
  const agent = await start()
  await untilAvailable(agent)
  // zeros are written through FUSE, which takes a while: the storage hangs between the first record and the second
  const put = agent.put('late', copySpec('source.raw', '', { target: { ...inHung('late.raw'), allocation: 'preallocated' } }))
  await until(async () => await readFile(join(below, '.vdsm-tasks/copies/late.raw.json')).then(() => true, () => false), 'the record')
  storage.hang()
  t.match((await put).body, { state: 'failed', error: { code: 'storage-unresponsive' } })
  storage.resume()
  await untilAvailable(agent)
  const left = await until(async () => {
    const { body } = await agent.image('hung', 'late.raw')
    return body.state === 'interrupted' && body
  }, 'the copy to be left')
  t.equal(left.copy?.canceledAt, undefined)
  t.equal(await agent.stop(), 0)

  const next = await start('own')
  await untilAvailable(next)
  await until(async () => (await next.request('GET', '/tasks/recover.hung.late.raw')).status === 200, 'the recovery')
  t.match(await next.finished('recover.hung.late.raw'), { state: 'succeeded' })
  t.equal(await sha256(join(below, 'late.raw')), await sha256(join(local, 'source.raw')))
})
