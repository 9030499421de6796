import t from 'tap'
import { startCluster } from '../gluster/cluster/cluster.ts'
import { cutOff, shareDomain } from '../gluster/cluster/domain.ts'

t.setTimeout(300_000)

const cluster = await startCluster(t)
const domain = await shareDomain(cluster)
const one = await domain.start(1)
const two = await domain.start(2)

t.test('a host that was cut off writes nothing more when it comes back', async t => {
  await cutOff(t, cluster, domain, { one, two, frozen: false })
})
