import t from 'tap'
import type { DomainStatus } from '../../src/api/domain.ts'
import { startCluster } from '../gluster/cluster/cluster.ts'
import { cutOff, diskBytes, interrupted, isCopied, shareDomain, targets } from '../gluster/cluster/domain.ts'
import { ovirtDomains } from '../gluster/cluster/ovirt-domain.ts'
import { copySpec, mendSpec, stalled } from '../helpers/agent.ts'
import { Empty } from '../helpers/empty.ts'
import { MiB } from '../helpers/images.ts'
import { unlessRoot } from '../helpers/mount-space.ts'
import { until } from '../helpers/processes.ts'

t.setTimeout(180_000)

t.test('hosts that share a GlusterFS volume', { skip: unlessRoot }, async t => {
  const cluster = await startCluster(t)
  const domain = await shareDomain(cluster)
  let one = await domain.start(1)
  const two = await domain.start(2)

  t.test('a mount without strict locks is warned of, in the status and in the log', async t => {
    t.match((await two.request<DomainStatus>('GET', '/domains/lax')).body, { state: 'available', local: false, warnings: [/client\.strict-locks on/] })
    t.equal((await two.request<DomainStatus>('GET', '/domains/local')).body.warnings, undefined)
    await until(() => two.log.includes('client.strict-locks'), 'the warning in the log')
    t.notMatch(one.log, /strict-locks/)
  })

  t.test('what a host that was killed was copying, another one continues', async t => {
    for (const image of targets) {
      await one.accept(image, copySpec('source.raw', image, { bandwidth: stalled }))
      t.match(await two.untilDone('local', image, MiB), { state: 'copying', copy: { host: { id: 'host1' }, taskId: image, epoch: 1 }, fixes: Empty })
      t.match(await two.refused('early', mendSpec(image)), { status: 409, body: { code: 'resource-busy', host: { id: 'host1' } } })
    }
    await one.kill()
    for (const image of targets) {
      const done = await interrupted(two, image)
      t.ok(done >= MiB)
      t.match(await two.done(`mend-${image}`, mendSpec(image)), { state: 'succeeded', result: { bytesCopied: diskBytes - done, epoch: 2 } })
      await isCopied(t, two, domain, image)
    }
    one = await domain.start(1)
    for (const image of targets) t.match((await one.image('local', image)).body, { state: 'ok', copy: { host: { id: 'host2' }, phase: 'done' } })
  })

  t.test('a chain of volumes that a host was copying when it was killed, another one continues', async t => {
    await ovirtDomains(t, { one, two })
    one = await domain.start(1)
  })

  t.test('a host that was cut off and stood still writes nothing more when it comes back', async t => {
    await cutOff(t, cluster, domain, { one, two, frozen: true })
  })
})
