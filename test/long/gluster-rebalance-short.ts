import t from 'tap'
import type { Operation } from '../../src/api/operation.ts'
import { startCluster, until } from '../gluster/cluster/cluster.ts'
import { allFilesAreThere, fillAndGrowVolume, numbersOf, statusByHand } from '../gluster/cluster/rebalance.ts'
import { Empty } from '../helpers/empty.ts'
import { unlessRoot } from '../helpers/mount-space.ts'

t.setTimeout(180_000)

const rebalance = { kind: 'gluster.startVolumeRebalance', volume: 'v0' }

// The rest, with brick removals and hosts that go down, is in test/long: GlusterFS takes ten seconds for each start.
t.test('three hosts of a cluster', { skip: unlessRoot }, async t => {
  const cluster = await startCluster(t)
  const [agents] = await Promise.all([
    Promise.all([1, 2, 3].map(async host => await cluster.agent(host))),
    fillAndGrowVolume(cluster, { perDirectory: 15, bytes: 1_000_000 })
  ])
  const [first] = agents
  let operationId: unknown

  t.test('told to start a rebalance at the same instant, they get one operation and say the same of it', async t => {
    await cluster.slow(3)
    const replies = await Promise.all(agents.map(async (agent, index) => await agent.run(`start-${index + 1}`, rebalance)))
    operationId = replies[0]?.result?.['operationId']
    t.match(replies, agents.map(() => ({ result: { operationId: /^[0-9a-f-]{36}$/ } })))
    t.equal(new Set(replies.map(({ result }) => result?.['operationId'])).size, 1)
    t.equal(replies.filter(({ result }) => result?.['alreadyStarted'] === true).length, 2)
    const starter = replies.findIndex(({ result }) => result?.['alreadyStarted'] !== true) + 1
    await Promise.all(agents.map(async agent => {
      const { items: [operation] } = await until(async () => await agent.list(), ({ items: [item] }) => item?.task !== undefined && item.problem === undefined && item.totals.files > 0)
      t.match(operation, { operationId, kind: 'rebalance', volume: 'v0', state: 'running', task: { taskId: `start-${starter}`, hostId: `host${starter}` }, complete: true, missing: Empty })
      t.same(operation?.nodes.map(({ host }) => host).sort(), ['node1', 'node2', 'node3'])
    }))
  })

  t.test('a start while it runs claims it', async t => {
    t.match(await agents[1]?.run('later', rebalance), { result: { operationId, alreadyStarted: true } })
  })

  t.test('at its end every host has the numbers of Gluster itself, and was told by event', async t => {
    await cluster.fast()
    for (const agent of agents) {
      const { items: [operation] } = await until(async () => await agent.list(), ({ items: [item] }) => item?.state === 'completed', 60)
      t.same(operation === undefined ? undefined : numbersOf(operation), await statusByHand(cluster))
      const { body } = await agent.http.request<Operation>('GET', `/gluster/operations/${String(operationId)}`)
      t.match(body, { operationId, state: 'completed' })
      await until(async () => agent.events, events => events.some(({ operation }) => operation.state === 'completed'))
      t.equal(agent.events[0]?.operation.state, 'running')
    }
    t.ok(await allFilesAreThere(cluster))
  })

  t.test('a host whose glusterd is stopped says so, and does the rest', async t => {
    await cluster.exec(1, 'sh', '-c', 'kill -9 $(cat /run/glusterd.pid)')
    t.match(await until(async () => await first?.http.request<{ code: string }>('GET', '/gluster/operations'), reply => reply?.status !== 200), { status: 503, body: { code: 'gluster-unavailable' } })
    t.match(await first?.run('too-late', rebalance), { error: { code: 'gluster-unavailable', changed: false } })
    t.match(await first?.http.request('GET', '/readyz'), { status: 200, body: { ready: true, gluster: { available: false, code: 'gluster-unavailable' } } })
    const { items: [operation] } = await until(async () => (await agents[2]?.list()) ?? { items: [] }, ({ items: [item] }) => item?.complete === false)
    t.match(operation, { operationId, missing: ['node1'] })
    t.not(operation?.state, 'completed')
  })
})
