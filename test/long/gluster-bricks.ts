import t from 'tap'
import { startCluster, until } from '../gluster/cluster/cluster.ts'
import { makeVolume, runOn } from '../gluster/cluster/rebalance.ts'

t.setTimeout(600_000)

const cluster = await startCluster(t)
const [one, three] = await Promise.all([cluster.agent(1), cluster.agent(3)])

t.test('the throttle of a rebalance is set by its start, told by every host, and changed while it runs', async t => {
  await makeVolume(cluster, 'slow', [2])
  await cluster.gluster(1, 'volume', 'add-brick', 'slow', 'node3:/srv/1/slow')
  const { result } = await one.run('start', { kind: 'gluster.startVolumeRebalance', volume: 'slow', throttle: 'lazy' })
  const operationId = String(result?.['operationId'])
  t.equal(result?.['warnings'], undefined)
  await until(() => three.list(), ({ items: [item] }) => item?.operationId === operationId && item.throttle === 'lazy')
  t.match(await three.http.request('PATCH', `/gluster/operations/${operationId}`, { body: { throttle: 'aggressive' } }), { status: 200, body: { operationId, throttle: 'aggressive' } })
  t.match(await cluster.gluster(2, 'volume', 'info', 'slow'), /cluster\.rebal-throttle: aggressive/)
  t.match(await one.http.request('GET', `/gluster/operations/${operationId}`, { headers: { prefer: 'wait=60' } }), { status: 200, body: { state: /completed|running/, throttle: 'aggressive' } })
})

t.test('a brick that is replaced is healed when the task succeeds', async t => {
  await cluster.gluster(1, 'volume', 'create', 'r', 'replica', '3', ...[1, 2, 3].map(host => `node${host}:/srv/2/r`))
  await cluster.gluster(1, 'volume', 'start', 'r')
  await runOn(cluster, 1, `mkdir /srv/r; mount -t glusterfs node1:/r /srv/r; cd /srv/r; for d in 1 2 3; do mkdir -p $d/e; for f in $(seq 20); do head -c 30000 /dev/urandom > $d/e/$f; done; done
    find . -type f | sort | xargs sha256sum > /run/r.sums`)
  await until(() => cluster.gluster(1, 'volume', 'heal', 'r', 'info', 'summary'), text => (text.match(/Total Number of entries: 0/g) ?? []).length === 3)
  // the disk of host 3 is gone
  await runOn(cluster, 3, 'kill -9 $(cat /run/gluster/vols/r/node3-srv-2-r.pid)')
  const replacement = { kind: 'gluster.replaceBrick', volume: 'r', brick: 'node3:/srv/2/r', by: 'node3:/srv/3/r' }
  const { result, error } = await three.run('replace', replacement)
  t.match(result, { brick: 'node3:/srv/3/r', healed: true, files: 60 }, JSON.stringify(error))
  await runOn(cluster, 3, 'cd /srv/3/r; find . -path ./.glusterfs -prune -o -type f -print | wc -l | grep -qx 60')
  t.match(await one.run('again', replacement), { result: { alreadyDone: true, healed: true, files: 60 } })
})

t.test('a disk is exchanged by a reset', async t => {
  const reset = { kind: 'gluster.resetBrick', volume: 'r', brick: 'node2:/srv/2/r' }
  t.match(await one.run('out', { ...reset, step: 'start' }), { result: { healed: false } })
  await runOn(cluster, 2, 'rm -rf /srv/2/r; mkdir /srv/2/r')
  await runOn(cluster, 1, 'echo new > /srv/r/new')
  const { result, error } = await one.run('in', { ...reset, step: 'commit' })
  t.match(result, { healed: true, files: 61 }, JSON.stringify(error))
  await runOn(cluster, 2, 'cat /srv/2/r/new | grep -qx new')
})
