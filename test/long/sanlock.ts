import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import type { DomainStatus } from '../../src/api/domain.ts'
import { stalled, startAgent, type AgentProcess } from '../helpers/agent.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { compare, identical, makeDisk, MiB } from '../helpers/images.ts'
import { makeOvirtDomain, uuid } from '../helpers/ovirt.ts'
import { leaseOf, makeLockspace, ownerOf, SanlockHost } from '../helpers/sanlock.ts'

// Hosts that die, with the times of a real sanlock: 20 seconds to join, 140 until a host counts as dead. Some six minutes.

t.setTimeout(900_000)
const root = await temporaryDirectory(t)
const domain = uuid('sanlock domain')
const path = await makeOvirtDomain(join(root, 'server:_export'), domain)
await makeLockspace(path, domain, 10)
const local = join(root, 'local')
const [one, two, third] = await Promise.all(['one', 'two', 'three'].map(async name => await SanlockHost.make(t, name))) as [SanlockHost, SanlockHost, SanlockHost]
const start = async (host: SanlockHost, hostId: number) => await startAgent(t, {
  hostId: host.name,
  domains: [{ id: 'local', path: local, create: host === one }, { id: domain, path, layout: 'ovirt', leases: 'sanlock' }],
  sanlock: { hostId },
  copy: { windowSeconds: 0.5 },
  under: host.enter
})
const size = 24 * MiB
const source = { domain: 'local', image: 'source.raw' }
const volumeOf = (name: string) => ({ domain, image: uuid(name), volume: uuid(`${name} volume`) })
const copy = (target: object) => ({ kind: 'storage.copyImage', source, target, bandwidth: stalled })
const leases = async (agent: AgentProcess) => (await agent.request<DomainStatus>('GET', `/domains/${domain}`)).body.leases
const becomes = async (agent: AgentProcess, state: string) => {
  for (const end = performance.now() + 300_000; performance.now() < end; await sleep(500)) {
    const found = await leases(agent)
    if (found?.state === state) return found
  }
  throw new Error(`the leases did not become ${state}: ${JSON.stringify(await leases(agent))}`)
}

const first = await start(one, 1)
await makeDisk(join(local, 'source.raw'), size)
const second = await start(two, 2)

t.test('each host joins the lockspace as the one that it is configured to be', async t => {
  t.match(await leases(first), { state: 'joining', hostId: 1 })
  t.match(await first.refused('early', copy(volumeOf('early'))), { status: 503, body: { code: 'domain-unavailable', detail: /is joining/ } })
  t.match(await Promise.all([becomes(first, 'ready'), becomes(second, 'ready')]), [{ hostId: 1 }, { hostId: 2 }])
})

t.test('a number that another host has is told of', async t => {
  const agent = await start(third, 2)
  t.match(await becomes(agent, 'unavailable'), { detail: /another host has this number/ })
  await agent.stop()
})

t.test('a host that is dead keeps its volumes until sanlock says so; then another one goes on', async t => {
  const target = volumeOf('of the dead')
  await first.accept('copy', copy(target))
  await first.untilDone(domain, target.image, MiB)
  await Promise.all([one.kill(), first.kill()])
  const diedAt = performance.now()
  t.equal(await ownerOf(leaseOf(path, domain, target.image, target.volume)), 1)
  const spec = { kind: 'storage.mendImage', ...target }
  for (let tries = 1; ; tries++) {
    const { status, body } = await second.put(`go-on-${tries}`, spec)
    if (status === 202) {
      const seconds = (performance.now() - diedAt) / 1000
      t.ok(seconds > 100 && seconds < 200, `taken over after ${Math.round(seconds)} s`)
      t.match(await second.finished(`go-on-${tries}`), { state: 'succeeded', result: { epoch: 2 } })
      break
    }
    if (status !== 409 || performance.now() - diedAt > 300_000) throw new Error(JSON.stringify(body))
    t.equal((await second.image(domain, target.image)).body.state, 'copying')
    await sleep(5000)
  }
  t.equal(await compare({ path: join(local, 'source.raw'), format: 'raw' }, { path: join(path, 'images', target.image, target.volume), format: 'raw' }), identical)
})

t.test('a host that cannot renew its leases stops writing', async t => {
  const target = volumeOf('lost')
  await second.accept('lost', copy(target))
  await second.untilDone(domain, target.image, MiB)
  await writeFile(join(path, 'dom_md/ids'), Buffer.alloc(MiB), { flag: 'r+' })
  t.match(await second.finished('lost'), { state: 'failed', error: { code: 'lease-lost' } })
  t.same(second.children('qemu-img convert'), [], 'nothing is left that could write')
})
