import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import type { Readiness } from '../../src/api/agent.ts'
import { copySpec, deleteSpec, mendSpec, stalled, startAgent, type AgentOptions, type AgentProcess } from '../helpers/agent.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { makeDisk, MiB, sh, sha256 } from '../helpers/images.ts'
import { MountSpace, unlessRoot } from '../helpers/mount-space.ts'
import { makeOvirtDomain, uuid } from '../helpers/ovirt.ts'
import { until } from '../helpers/processes.ts'
import { beatOf, hostFiles, inShared, LockObserver, mountByFuse, sharedStatus, signalAll, untilLocks } from '../helpers/shared-locks.ts'

t.setTimeout(180_000)

t.test('of two hosts whose locks do not reach each other, the second is refused, and the first one stops', { skip: unlessRoot }, async t => {
  const { start, below, at: [one = '', other = ''] } = await mountByFuse(t, 2)
  const first = await start('first', one)
  t.match((await untilLocks(first, 'alone')), { state: 'available', locks: { agents: 0 } }, 'alone, it waits for nothing')
  await makeDisk(join(below, 'source.raw'), 24 * MiB)
  for (const target of ['copy.qcow2', 'copy.raw']) await first.accept(target, inShared(copySpec('source.raw', target, { bandwidth: stalled })))

  const second = await start('second', other)
  const began = performance.now()
  // at once: whether locks work is not known yet
  const replies = await Promise.all([
    inShared(mendSpec('copy.qcow2')), inShared(copySpec('source.raw', 'other.raw')), inShared(deleteSpec('copy.raw')),
    { kind: 'storage.createImage', domain: 'shared', image: 'new.raw', virtualSize: MiB }
  ].map(async (spec, index) => await second.refused(`early-${index}`, spec)))
  t.comment(`refused after ${Math.round(performance.now() - began)} ms`)
  for (const { status, body, headers } of replies) {
    t.match({ status, body, headers }, { status: 503, body: { code: 'locks-broken', detail: /host first.*bindfs/s }, headers: { 'retry-after': /^\d+$/ } })
  }
  t.match(await sharedStatus(second), {
    state: 'unavailable', code: 'locks-broken', detail: /Locks do not work/, bytesTotal: Number, locks: { state: 'broken', agents: 1, problems: [{ code: 'locks-broken' }] }
  })
  t.match((await second.request<Readiness>('GET', '/readyz')), { status: 503, body: { ready: false, domains: [{ state: 'unavailable', code: 'locks-broken' }] } })

  for (const target of ['copy.qcow2', 'copy.raw']) {
    t.match(await first.finished(target), { state: 'failed', error: { code: 'locks-broken', detail: /host second/ } })
    t.match((await first.image('shared', target)).body, { state: 'interrupted', copy: { host: { id: 'first' }, epoch: 1 } })
    t.equal((await first.image('shared', target)).body.copy?.canceledAt, undefined, 'nobody has canceled it')
  }
  t.match(await first.refused('more', inShared(mendSpec('copy.qcow2'))), { status: 503, body: { code: 'locks-broken' } })
  t.match(await second.fixes('shared'), [{ image: 'copy.qcow2' }, { image: 'copy.raw' }], 'images can still be read')
  t.match(first.log, /Locks do not work/)

  await second.kill()
  // the process is known to have ended: nothing it held can be written any more
  t.equal((await untilLocks(first, 'alone')).code, undefined)
  for (const target of ['copy.qcow2', 'copy.raw']) {
    t.match(await first.done(`mend-${target}`, inShared(mendSpec(target))), { state: 'succeeded' })
  }
  t.equal(await sha256(join(below, 'copy.raw')), await sha256(join(below, 'source.raw')))
  t.equal((await hostFiles(below)).length, 1)
})

t.test('an agent does not hold on to a file system that was unmounted lazily', { skip: unlessRoot }, async t => {
  const top = await temporaryDirectory(t)
  const [disk, at] = ['disk', 'mounted'].map(name => join(top, name)) as [string, string]
  await mkdir(at)
  const space = await MountSpace.make(t)
  await space.mountFile(disk, 64 * MiB, ['mkfs.ext4', '-q'], at)
  const agent = await startAgent(t, { domains: [{ id: 'shared', path: at, create: true }], under: space.enter })
  await untilLocks(agent, 'alone')
  const domain = space.path(at)
  await until(async () => (await hostFiles(domain)).length === 1, 'the host file')
  t.not(await sh('losetup', '-j', disk), '', 'the device is in use')

  await space.run('umount', '--lazy', at)
  await until(async () => await sh('losetup', '-j', disk) === '', 'the device to be free')
  t.match((await sharedStatus(agent)), { state: 'unavailable', code: 'domain-unavailable' })

  await space.run('mount', '-o', 'loop', disk, at)
  await until(async () => (await sharedStatus(agent)).state === 'available', 'the domain to be back')
  // the file that was left is removed in time, because nobody writes into it
  await until(async () => (await hostFiles(domain)).length >= 2, 'a new host file')
  await untilLocks(agent, 'alone')
})

t.test('two agents with one hostId are told from each other, and each says so', async t => {
  const path = join(await temporaryDirectory(t), 'images')
  const start = async () => await startAgent(t, { hostId: 'twin', domains: [{ id: 'shared', path, create: true }] })
  const twins = [await start(), await start()]
  for (const twin of twins) {
    const status = await until(async () => {
      const found = await sharedStatus(twin)
      return found.locks?.problems !== undefined && found
    })
    const detail = /Another agent \(instance .*\) works on domain shared as host twin, too.*"hostId" of its own/s
    t.match(status, { state: 'available', locks: { state: 'proven', agents: 1, problems: [{ code: 'host-id-duplicate', detail }] }, warnings: [detail] })
    t.match(await twin.done('create', inShared({ kind: 'storage.createImage', domain: 'local', image: `by-${twin.pid}.raw`, virtualSize: MiB })), { state: 'succeeded' }, 'it refuses nothing')
  }
  const [first, second] = twins as [AgentProcess, AgentProcess]
  await second.kill()
  const alone = await untilLocks(first, 'alone')
  t.equal(alone.locks?.problems, undefined)
  t.equal(alone.warnings, undefined, 'when the other one has gone, there is nothing to say')
})

t.test('a directory that is attached under two domain ids is refused under both', async t => {
  const root = await temporaryDirectory(t)
  const domain = uuid('domain')
  const path = await makeOvirtDomain(root, domain)
  // the marker of a domain of the other layout, which somebody has put there
  const prepared = await startAgent(t, { domains: [{ id: domain, path, layout: 'ovirt' }] })
  await untilLocks(prepared, 'alone', domain)
  await prepared.kill()
  await writeFile(join(path, '.vdsm-tasks/domain.json'), '{"id":"plain"}')
  const link = join(root, 'link')
  await symlink(path, link)
  const asOvirt: AgentOptions['domains'] = [{ id: domain, path, layout: 'ovirt' }]
  const asPlain: AgentOptions['domains'] = [{ id: 'plain', path: link }]

  const isRefused = async (agent: AgentProcess, id: string, other: string, whose: string) => {
    const { state, code, detail, locks } = await untilLocks(agent, 'conflict', id)
    const words = `is attached as domain ${other}, too, by ${whose}`
    t.match({ state, code, detail, locks }, {
      state: 'unavailable', code: 'domain-id-conflict', detail: words, locks: { problems: [{ code: 'domain-id-conflict' }] }
    })
    t.match(await agent.request<Readiness>('GET', '/readyz'), { body: { domains: [{ code: 'domain-id-conflict' }] } })
    const spec = { kind: 'storage.createImage', domain: id, ...id === domain ? { image: uuid('image'), volume: uuid('volume'), format: 'raw' } : { image: 'new.raw' }, virtualSize: MiB }
    t.match(await agent.refused(`create-${id}`, spec), { status: 503, body: { code: 'domain-id-conflict', detail: words } })
  }
  const both = await startAgent(t, { domains: [...asOvirt, ...asPlain] })
  await isRefused(both, domain, 'plain', 'this agent itself')
  await isRefused(both, 'plain', domain, 'this agent itself')
  await both.kill()

  const [one, other] = [await startAgent(t, { hostId: 'one', domains: asOvirt }), await startAgent(t, { hostId: 'other', domains: asPlain })]
  await isRefused(one, domain, 'plain', 'the agent on host other')
  await isRefused(other, 'plain', domain, 'the agent on host one')
  await other.kill()
  t.match(await untilLocks(one, 'alone', domain), { state: 'available' }, 'with one of them gone, the other one works')
})

t.test('hosts whose locks hold raise no alarm, whoever comes, goes or stands still', { skip: unlessRoot }, async t => {
  const { start, below, at: [at = ''] } = await mountByFuse(t, 1)
  const beats = async (hostId: string) => await beatOf(below, hostId)
  const observer = new LockObserver()
  t.teardown(async () => { await observer.end() })
  const first = await start('first', at)
  observer.watch(first)
  for (const how of ['kill', 'stop'] as const) {
    const second = await start('second', at)
    observer.watch(second)
    for (const agent of [first, second]) t.match(await untilLocks(agent, 'proven'), { state: 'available', locks: { agents: 1 } })
    if (how === 'stop') {
      observer.leave(second)
      signalAll(second, 'SIGSTOP')
      const before = await beats('first')
      // its heartbeat has stopped for longer than one that has died would be waited for
      await until(async () => await beats('first') >= before + 8, 'the first agent to go on')
      t.match(await sharedStatus(first), { state: 'available', locks: { state: 'proven' } })
      signalAll(second, 'SIGCONT')
      observer.watch(second)
      const after = await beats('second')
      await until(async () => await beats('second') >= after + 3, 'the second agent to go on')
      t.match(await sharedStatus(second), { state: 'available', locks: { state: 'proven' } })
    }
    observer.leave(second)
    await second[how]()
  }
  t.same(observer.alarms, [])
})
