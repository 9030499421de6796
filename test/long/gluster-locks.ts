import t from 'tap'
import { startCluster } from '../gluster/cluster/cluster.ts'
import { shareDomain } from '../gluster/cluster/domain.ts'
import { LockObserver, sharedStatus, untilLocks } from '../helpers/shared-locks.ts'

// On a GlusterFS volume, locks of one host hold against the other: however often it comes, there is no alarm.

const attaches = Number(process.env['LOCK_ATTACHES'] ?? 12)
t.setTimeout(300_000 + attaches * 60_000)

const cluster = await startCluster(t)
const domain = await shareDomain(cluster)
const one = await domain.start(1)

t.test(`${attaches} times a second host comes, and nobody raises an alarm`, async t => {
  const observer = new LockObserver('local')
  t.teardown(async () => { await observer.end() })
  observer.watch(one)
  for (let attach = 0; attach < attaches; attach++) {
    const two = await domain.start(2)
    observer.watch(two)
    for (const agent of [one, two]) t.match(await untilLocks(agent, 'proven', 'local'), { state: 'available', locks: { agents: 1 } })
    const create = { kind: 'storage.createImage', domain: 'local', image: `image-${attach}.raw`, virtualSize: 4096 }
    t.match(await two.done(`create-${attach}`, create), { state: 'succeeded' })
    observer.leave(two)
    await two[attach % 2 === 0 ? 'kill' : 'stop']()
    t.match(await sharedStatus(one, 'local'), { state: 'available' })
  }
  t.same(observer.alarms, [])
})
