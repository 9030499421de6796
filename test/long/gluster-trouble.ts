import t from 'tap'
import { startCluster, until } from '../gluster/cluster/cluster.ts'
import { fillAndGrowVolume } from '../gluster/cluster/rebalance.ts'

t.setTimeout(300_000)

const cluster = await startCluster(t)
const [one, two, three] = await Promise.all([cluster.agent(1), cluster.agent(2), cluster.agent(3)])
const rebalance = { kind: 'gluster.startVolumeRebalance', volume: 'v0', mode: 'rebalance', force: false } as const

const killGlusterd = (host: number): Promise<unknown> => cluster.exec(host, 'sh', '-c', 'kill -9 $(cat /run/glusterd.pid)')
const startGlusterd = async (host: number): Promise<void> => {
  await cluster.exec(host, 'glusterd', '--pid-file=/run/glusterd.pid')
  await until(() => cluster.gluster(1, 'pool', 'list'), list => !list.includes('Disconnected'))
}

await fillAndGrowVolume(cluster, { perDirectory: 30, bytes: 2_000_000 })

t.test('a host whose glusterd dies during a rebalance is missing by name, and nothing is called completed', async t => {
  await cluster.slow(16)
  const { result } = await one.run('a', rebalance)
  await killGlusterd(2)
  const { items: [operation] } = await until(() => one.list(), ({ items: [item] }) => item?.complete === false && item.problem === undefined)
  t.match(operation, { operationId: result?.['operationId'], complete: false, missing: ['node2'] })
  t.not(operation?.state, 'completed')
  t.same(operation?.nodes.map(node => node.host).sort(), ['node1', 'node3'])
  await until(async () => three.events, all => all.at(-1)?.operation.missing.includes('node2') === true)
  const { items: [volume] } = await one.volumes()
  t.equal(volume?.bricks.find(brick => brick.host === 'node2')?.online, undefined, 'whether its brick is online is not known')
})

t.test('on the host itself Gluster is unavailable', async t => {
  await t.rejects(two.list(), /gluster-unavailable/)
  await t.rejects(two.volumes(), /gluster-unavailable/)
  t.match(await two.run('b', rebalance), { error: { code: 'gluster-unavailable', changed: false } })
})

t.test('when it is back, it is no longer missing', async t => {
  await startGlusterd(2)
  const { items: [operation] } = await until(() => one.list(), ({ items: [item] }) => item?.complete === true, 60)
  t.same(operation?.missing, [])
  await until(() => two.list(), ({ items: [item] }) => item?.operationId === operation?.operationId, 60)
})

t.test('an operation that was started while a host was down is a disagreement, told by every host while it lasts', async t => {
  const { items: [old] } = await one.list()
  await killGlusterd(2)
  await until(() => cluster.gluster(1, 'pool', 'list'), list => list.includes('Disconnected'))
  await cluster.gluster(1, 'volume', 'rebalance', 'v0', 'stop')
  await cluster.fast()
  // by hand, because an agent's mark on the volume makes the host that was down take over what the others know
  const { stdout } = await until(() => cluster.exec(1, 'gluster', '--mode=script', 'volume', 'rebalance', 'v0', 'start'), ({ code }) => code === 0, 60)
  const id = /ID: ([0-9a-f-]{36})/.exec(stdout)?.[1]
  t.not(id, old?.operationId)
  await startGlusterd(2)
  for (const agent of [one, three, two]) {
    const { items } = await until(() => agent.list(), list => list.items.length === 2 && list.items.every(item => item.problem === undefined), 90)
    t.match(items.find(item => item.operationId === id), { disagreement: [{ host: 'node2', operationId: old?.operationId }], complete: false })
    t.match(items.find(item => item.operationId === old?.operationId), { complete: false })
    t.same(items.find(item => item.operationId === old?.operationId)?.disagreement?.map(({ host }) => host).sort(), ['node1', 'node3'])
  }
  await until(async () => three.events, all => all.some(({ operation }) => operation.disagreement?.some(({ host }) => host === 'node2') === true))

  await until(() => cluster.exec(1, 'gluster', '--mode=script', 'volume', 'rebalance', 'v0', 'stop'), ({ stdout }) => /success|not started/.test(stdout))
  const next = await until(() => three.run('next', rebalance), ({ result }) => result !== undefined, 60)
  for (const agent of [one, two, three]) {
    const { items } = await until(() => agent.list(), list => list.items.length === 1 && list.items[0]?.disagreement === undefined, 60)
    t.equal(items[0]?.operationId, next.result?.['operationId'], 'the next one ends it')
  }
})
