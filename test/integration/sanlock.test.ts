import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import type { DomainStatus } from '../../src/api/domain.ts'
import { stalled, startAgent } from '../helpers/agent.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { Empty } from '../helpers/empty.ts'
import { compare, identical, makeDisk, MiB } from '../helpers/images.ts'
import { unlessRoot } from '../helpers/mount-space.ts'
import { accessOf, makeOvirtDomain, uuid } from '../helpers/ovirt.ts'
import { socketsOf, until } from '../helpers/processes.ts'
import { leaseOf, lockspaceOf, makeLockspace, ownerOf, SanlockHost } from '../helpers/sanlock.ts'

// Two hosts with a real sanlock each, and the agent as it is installed. What takes as long as sanlock waits for the death of
// a host is in test/long/sanlock.ts.

if (unlessRoot !== false) {
  t.plan(0, unlessRoot)
  process.exit()
}
t.setTimeout(180_000)
const ioSeconds = 2
const root = await temporaryDirectory(t)
const domain = uuid('sanlock domain')
// vdsm's own paths have a colon
const path = await makeOvirtDomain(join(root, 'server:_export'), domain)
await makeLockspace(path, domain, ioSeconds)
const hosts = await Promise.all(['one', 'two'].map(async name => await SanlockHost.make(t, name)))
const [one, two] = hosts as [SanlockHost, SanlockHost]
await Promise.all(hosts.map(async (host, index) => { await host.join(path, domain, index + 1, ioSeconds) }))
const local = join(root, 'local')
const options = (host: SanlockHost) => ({
  hostId: host.name,
  domains: [{ id: 'local', path: local, create: host === one }, { id: domain, path, layout: 'ovirt' as const, leases: 'sanlock' as const }],
  copy: { clone: false, windowSeconds: 0.5 },
  under: host.enter
})
let first = await startAgent(t, options(one))
const restart = async () => {
  first = await startAgent(t, options(one))
  return first
}
const second = await startAgent(t, options(two))
const size = 24 * MiB
await makeDisk(join(local, 'source.raw'), size)

const copy = (source: object, target: object, more: object = {}) => ({ kind: 'storage.copyImage', source, target, ...more })
const fromLocal = { domain: 'local', image: 'source.raw' }
const volumeOf = (name: string) => ({ domain, image: uuid(name), volume: uuid(`${name} volume`) })
type Volume = ReturnType<typeof volumeOf>
const lease = ({ image, volume }: Volume) => leaseOf(path, domain, image, volume)
const at = ({ image, volume }: Volume) => join(path, 'images', image, volume)
const mend = (target: Volume) => ({ kind: 'storage.mendImage', ...target })
const remove = (target: Volume) => ({ kind: 'storage.deleteImage', ...target })
const isCopy = async (target: Volume) => await compare({ path: join(local, 'source.raw'), format: 'raw' }, { path: at(target), format: 'raw' }) === identical

t.test('volumes get a lease that sanlock takes, and are free when their task has ended', async t => {
  const made = volumeOf('made')
  t.match(await first.done('made', { kind: 'storage.createImage', ...made, format: 'raw', virtualSize: size }), { state: 'succeeded' })
  t.equal(await ownerOf(lease(made)), 0)
  t.match(await accessOf(`${at(made)}.lease`), '36:36 660')
  t.match(await first.done('filled', copy(fromLocal, { ...made, generation: 0 }, { verify: true })), { state: 'succeeded', result: { generation: 1 } })
  t.equal(await ownerOf(lease(made)), 0)
  t.ok(await isCopy(made))
  const copied = volumeOf('copied')
  t.match(await second.done('copied', copy(made, copied)), { state: 'succeeded' })
  t.equal(await ownerOf(lease(copied)), 0)
  t.match(await second.done('compared', { kind: 'storage.verifyImage', ...made, against: copied }), { result: { identical: true } })
  t.match(await second.done('removed', remove(copied)), { state: 'succeeded' })
  t.match(await second.request('GET', `/domains/${domain}`), { body: { state: 'available', leases: { kind: 'sanlock', state: 'ready', hostId: 2 } } })
  t.match(await second.request('GET', '/readyz'), { status: 200 })
})

t.test('while a host copies, nobody else has the volume: no other agent, and nothing that takes leases as vdsm does', async t => {
  const target = volumeOf('copying')
  await first.accept('copying', copy(fromLocal, target, { bandwidth: stalled }))
  await first.untilDone(domain, target.image, MiB)
  t.equal(await ownerOf(lease(target)), 1, 'the storage says who has it')
  t.match(await second.image(domain, target.image), { body: { state: 'copying', fixes: Empty, volumes: [{ copy: { host: { id: 'one' } } }] } })
  for (const [index, spec] of [mend(target), mend(target), remove(target)].entries()) {
    t.match(await second.refused(`busy-${index}`, spec), { status: 409, body: { code: 'resource-busy' } }, index === 0 ? 'by our own lock' : 'by sanlock alone')
    await rm(join(path, '.vdsm-tasks/leases', `${target.image}.${target.volume}`))
  }
  t.match(await Promise.all(hosts.map(async host => await host.take(lease(target)))), [{ taken: false }, { taken: false }], 'programs on both hosts')

  await first.kill()
  const broken = await until(async () => {
    const { body } = await second.image(domain, target.image)
    return body.state === 'interrupted' && body
  })
  t.match(broken, { fixes: [{ action: 'mend' }, { action: 'clean' }] })
  t.equal(await ownerOf(lease(target)), 0, 'the daemon of a dead agent gives it back')
  t.match(await second.done('go-on', mend(target)), { state: 'succeeded', result: { epoch: 2 } })
  t.ok(await isCopy(target))
})

t.test('what somebody else has leased is left alone, and a source is kept while it is read', async t => {
  const agent = await restart()
  const [volume, other] = [volumeOf('leased'), volumeOf('leased too')]
  for (const target of [volume, other]) await agent.done(`make-${target.volume}`, { kind: 'storage.createImage', ...target, format: 'raw', virtualSize: size })
  for (const host of hosts) {
    const holder = await host.take(lease(volume))
    t.ok(holder.taken)
    const specs = [copy(fromLocal, { ...volume, generation: 0 }), copy(volume, { domain: 'local', image: 'out.raw' }), remove(volume)]
    for (const [index, spec] of (host === one ? specs.slice(2) : specs).entries()) t.match(await agent.refused(`held-${index}`, spec), { status: 409, body: { code: 'resource-busy' } })
    await holder.release()
    await until(async () => await ownerOf(lease(volume)) === 0, 'the daemon to notice')
  }
  const source = volumeOf('made')
  await agent.accept('reading', copy(source, { ...other, generation: 0 }, { bandwidth: stalled }))
  t.match(await second.done('reading-too', copy(source, { domain: 'local', image: 'out.raw' })), { state: 'succeeded' }, 'by two hosts at once')
  t.match(await Promise.all(hosts.map(async host => await host.take(lease(source)))), [{ taken: false }, { taken: false }])
  t.match(await second.refused('away', remove(source)), { status: 409, body: { code: 'resource-busy' } })
  await agent.request('DELETE', '/tasks/reading')
  t.match(await agent.finished('reading'), { state: 'canceled' })
  t.match(await second.done('away-now', remove(source)), { state: 'succeeded' })
  t.match(await agent.done('away-too', remove(other)), { state: 'succeeded' })
})

t.test('a host that loses the lockspace, or its daemon, stops writing at once and says so', async t => {
  const agent = first
  const [left, killed] = [volumeOf('left'), volumeOf('killed')]
  const connections = (part: string) => agent.children(part).flatMap(socketsOf)
  for (const [name, target, lose] of [
    ['left', left, async () => { await one.client('rem_lockspace', '-s', lockspaceOf(path, domain, 1)) }],
    ['killed', killed, async () => { await one.kill() }]
  ] as const) {
    await agent.accept(name, copy(fromLocal, target, { bandwidth: 4 * MiB }))
    await agent.untilDone(domain, target.image, MiB)
    const [connection = ''] = await until(async () => {
      const found = connections('qemu-img convert')
      return found.length > 0 && found
    }, 'a qemu-img')
    t.ok(connections('storage/copy/main').includes(connection), 'a qemu-img has the connection to sanlock: it cannot outlive the lease')
    const ended = agent.finished(name)
    await lose()
    const end = await ended
    t.match(end, { state: 'failed', error: { code: 'lease-lost' } }, JSON.stringify(end.error))
    t.same(agent.children('qemu-img convert'), [], 'nothing is left that could write')
    // it is leaving for a moment first
    const reason = name === 'left' ? /sanlock\.hostId/ : /daemon of sanlock does not answer/
    t.match(await until(async () => {
      const { body, status } = await agent.request<{ domains: DomainStatus[] }>('GET', '/readyz')
      return status === 503 && reason.test(body.domains[1]?.leases?.detail ?? '') && body.domains[1]
    }), { state: 'available', leases: { state: 'unavailable' } })
    t.match(await agent.refused(`${name}-again`, mend(target)), { status: 503, body: { code: 'domain-unavailable' } })
    t.match(await agent.image(domain, target.image), { status: 200 }, 'images are read all the same')
    if (name === 'left') await one.join(path, domain, 1, ioSeconds)
  }
  t.match(await second.done('left', mend(left)), { state: 'succeeded', result: { epoch: 2 } }, 'what was given back can be had at once')
  t.ok(await isCopy(left))
  t.match(await second.refused('killed', mend(killed)), { status: 409, body: { code: 'resource-busy' } }, 'the other may still be alive')
  t.match((await second.image(domain, killed.image)).body.state, 'copying')

  await one.start()
  one.freeze()
  t.match(await agent.request('GET', `/domains/${domain}`), { body: { state: 'available', leases: { state: 'unavailable', detail: /gave no answer/ } } }, 'a daemon that hangs')
  t.match(await agent.image(domain, left.image), { body: { state: 'ok' } }, 'holds nobody up who reads')
  t.match((await agent.image(domain, killed.image)).body.state, 'copying')
  await agent.stop()
})

t.test('a lease that is none is told of, and one of a local file system is made one', async t => {
  const volume = volumeOf('no lease')
  await second.done('no-lease', { kind: 'storage.createImage', ...volume, format: 'raw', virtualSize: size })
  await writeFile(`${at(volume)}.lease`, 'x'.repeat(MiB))
  t.match(await second.refused('not-one', copy(fromLocal, { ...volume, generation: 0 })), { status: 422, body: { code: 'metadata-invalid', detail: /sanlock direct init/ } })
  await writeFile(`${at(volume)}.lease`, '')
  t.match(await second.done('blank', copy(fromLocal, { ...volume, generation: 0 })), { state: 'succeeded' })
  t.equal(await ownerOf(lease(volume)), 0)
})
