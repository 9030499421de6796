import t from 'tap'
import type { Operation } from '../../src/api/operation.ts'
import { startCluster, until } from '../gluster/cluster/cluster.ts'
import { makeVolume, runOn } from '../gluster/cluster/rebalance.ts'
import { Empty } from '../helpers/empty.ts'

t.setTimeout(600_000)

const cluster = await startCluster(t)
const [one, two] = await Promise.all([cluster.agent(1), cluster.agent(2)])
const start = (volume: string, of: object = {}): object => ({ kind: 'gluster.startVolumeRebalance', volume, ...of })

async function told (volume: string, check: (operation: Operation) => boolean, seconds = 30, agent = one): Promise<Operation> {
  const { items } = await until(() => agent.list(), ({ items }) => items.some(item => item.volume === volume && item.problem === undefined && check(item)), seconds)
  const found = items.find(item => item.volume === volume)
  if (found === undefined) throw new Error('it was there')
  return found
}

t.test('a host that joins the volume after the start takes no part, if the mark proves that', async t => {
  for (const volume of ['marked', 'byhand']) {
    await makeVolume(cluster, volume, [2], { slow: false })
    await cluster.gluster(1, 'volume', 'add-brick', volume, `node2:/srv/2/${volume}`)
  }
  t.match(await one.run('marked', start('marked')), { result: { operationId: String } })
  await cluster.gluster(1, 'volume', 'rebalance', 'byhand', 'start')
  for (const volume of ['marked', 'byhand']) {
    t.match(await told(volume, ({ state }) => state === 'completed'), { complete: true, missing: Empty })
    await cluster.gluster(1, 'volume', 'add-brick', volume, `node3:/srv/1/${volume}`)
  }
  for (const agent of [one, two]) {
    t.match(await told('marked', ({ joinedLater }) => joinedLater !== undefined, 30, agent), { state: 'completed', complete: false, missing: Empty, joinedLater: ['node3'] })
    const unproven = await told('byhand', ({ complete }) => !complete, 30, agent)
    t.match(unproven, { state: 'unknown', missing: ['node3'] })
    t.equal(unproven.joinedLater, undefined)
  }
})

t.test('a rebalance whose process was killed is stalled after a minute, is not claimed, and can be started again', async t => {
  await makeVolume(cluster, 'dead', [2], { directories: 10 })
  await cluster.gluster(1, 'volume', 'add-brick', 'dead', 'node3:/srv/1/dead')
  const { result } = await one.run('dead', start('dead'))
  const { operationId } = result ?? {}
  await told('dead', ({ state, totals }) => state === 'running' && totals.scanned > 0)
  for (const host of [2, 3]) {
    await runOn(cluster, host, 'for p in /proc/[0-9]*; do if tr "\\0" " " < $p/cmdline | grep -q "volfile-id [r]ebalance/dead"; then kill -9 $(basename $p); fi; done')
  }
  const stalled = await told('dead', ({ nodes }) => nodes.some(({ stalledSince }) => stalledSince !== undefined), 120)
  t.match(stalled, { operationId, state: 'running', complete: false })
  t.match(await one.run('claim', start('dead')), { error: { code: 'operation-ended', changed: false, operationId, detail: /"restart": true/ } })
  const again = await one.run('again', start('dead', { restart: true }))
  t.match(again, { result: { operationId: String } })
  t.not(again.result?.['operationId'], operationId)
  t.equal(again.result?.['alreadyStarted'], undefined)
  t.match(await told('dead', operation => operation.operationId === again.result?.['operationId'] && operation.state === 'completed', 120), { complete: true })
})

t.test('with a cable pulled every GET is answered within three seconds, and tells what was seen last', async t => {
  await makeVolume(cluster, 'cable', [2, 3], { slow: false })
  await cluster.gluster(1, 'volume', 'rebalance', 'cable', 'start', 'force')
  await told('cable', ({ state }) => state === 'completed')
  await cluster.exec(2, 'ip', 'link', 'set', 'eth0', 'down')
  const end = Date.now() + 40_000
  let late = 0
  while (Date.now() < end) {
    for (const path of ['/gluster/operations', '/gluster/volumes']) {
      const began = performance.now()
      const { status, body } = await one.http.request<{ observedAt: string, problem?: { code: string } }>('GET', path)
      const took = performance.now() - began
      if (took > 3000) t.fail(`GET ${path} took ${took} ms`)
      t.equal(status, 200, JSON.stringify(body))
      t.match(body.observedAt, /^\d{4}-/)
      if (body.problem?.code === 'gluster-unresponsive') late++
    }
  }
  t.ok(late > 0, 'some were answered with what was seen last')
  await told('cable', ({ missing }) => missing.includes('node2'), 90)
  await cluster.exec(2, 'ip', 'link', 'set', 'eth0', 'up')
  await until(() => cluster.gluster(1, 'pool', 'list'), list => !list.includes('Disconnected'), 60)
  t.match(await told('cable', ({ complete }) => complete, 90), { state: 'completed', missing: Empty })
})

t.test('a peer that the cluster has rejected is named, and nothing is complete with it', async t => {
  await cluster.exec(3, 'sh', '-c', 'kill -9 $(cat /run/glusterd.pid)')
  // its own copy of the volume differs from that of the others, and is of the same version
  await runOn(cluster, 3, 'echo performance.cache-size=64MB >> /var/lib/glusterd/vols/cable/info')
  await cluster.exec(3, 'glusterd', '--pid-file=/run/glusterd.pid')
  const status = await until(() => cluster.gluster(1, 'peer', 'status'), text => /Rejected/.test(text), 60).catch((error: unknown) => String(error))
  t.match(status, /Peer Rejected \(Connected\)/)
  const rejected = await told('cable', operation => operation.rejected !== undefined, 60)
  t.match(rejected, { complete: false, rejected: ['node3'], state: 'unknown' })
  t.notOk(rejected.missing.includes('node3'))
})
