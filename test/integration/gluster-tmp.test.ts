import t from 'tap'
import { startCluster, until } from '../gluster/cluster/cluster.ts'
t.setTimeout(300_000)
const cluster = await startCluster(t)
const agents = await Promise.all([1, 2, 3].map(host => cluster.agent(host)))
await cluster.gluster(1, 'volume', 'create', 'v0', 'node1:/srv/1/v0', 'node2:/srv/1/v0')
await cluster.gluster(1, 'volume', 'start', 'v0')
await cluster.exec(1, 'sh', '-ec', `
    mkdir /srv/mnt
    mount -t glusterfs node1:/v0 /srv/mnt
    for d in 1 2 3 4 5 6; do
      mkdir /srv/mnt/$d
      for f in $(seq 40); do head -c 2000000 /dev/urandom > /srv/mnt/$d/$f; done
    done`)
await cluster.gluster(1, 'volume', 'add-brick', 'v0', 'node3:/srv/1/v0')
await cluster.slow(16)
const t0 = Date.now()
const replies = await Promise.all(agents.map(async (agent, index) => { const r = await agent.run(`s${index}`, { kind: 'gluster.startVolumeRebalance', volume: 'v0', mode: 'rebalance', force: false }); return [Date.now() - t0, r] }))
t.comment(JSON.stringify(replies))
await until(async () => agents[0]!.events, e => e.length > 3)
for (const a of agents) for (const e of a.events.slice(0, 3)) t.comment(JSON.stringify([Date.parse(e.operation.observedAt) - t0, e]))
t.pass()
