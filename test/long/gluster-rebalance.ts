import t from 'tap'
import type { FinalNumbers } from '../../src/api/gluster-kinds.ts'
import { startCluster, until } from '../gluster/cluster/cluster.ts'
import { allFilesAreThere, fillAndGrowVolume, numbersOf, statusByHand } from '../gluster/cluster/rebalance.ts'
import { Empty } from '../helpers/empty.ts'

t.setTimeout(300_000)

const cluster = await startCluster(t)
const agents = await Promise.all([1, 2, 3].map(host => cluster.agent(host)))
const [one, two, three] = agents
if (one === undefined || two === undefined || three === undefined) throw new Error('three agents')

const rebalance = { kind: 'gluster.startVolumeRebalance', volume: 'v0', mode: 'rebalance', force: false } as const
const fixLayout = { ...rebalance, mode: 'fix-layout' } as const

await fillAndGrowVolume(cluster, { perDirectory: 40, bytes: 2_000_000 })

t.test('a volume that does not exist, is not distributed or not started is refused by name', async t => {
  await cluster.gluster(1, 'volume', 'create', 'single', 'node1:/srv/2/single')
  t.match(await one.run('a', { ...rebalance, volume: 'nope' }), { error: { code: 'volume-not-found', changed: false } })
  t.match(await one.run('a', { ...rebalance, volume: 'single' }), { error: { code: 'volume-not-started', changed: false } })
  await cluster.gluster(1, 'volume', 'start', 'single')
  t.match(await one.run('a', { ...rebalance, volume: 'single' }), { error: { code: 'not-distributed', changed: false, detail: /is not a distribute volume or contains only 1 brick/ } })
  t.match(await one.run('a', { kind: 'gluster.stopVolumeRebalance', volume: 'v0' }), { error: { code: 'operation-not-running' } })
  const info = await cluster.gluster(1, 'volume', 'info', 'single')
  t.notMatch(info, /taskId/, 'a refused start leaves no mark')
})

t.test('three hosts told to start at the same instant get one operation', async t => {
  await cluster.slow(16)
  const replies = await Promise.all(agents.map((agent, index) => agent.run(`start-${index}`, rebalance)))
  const ids = replies.map(reply => reply.result?.['operationId'])
  t.match(replies, [1, 2, 3].map(() => ({ result: { operationId: /^[0-9a-f-]{36}$/ } })))
  t.equal(new Set(ids).size, 1)
  t.equal(replies.filter(reply => reply.result?.['alreadyStarted'] === true).length, 2)

  const started = replies.findIndex(reply => reply.result?.['alreadyStarted'] !== true)
  for (const agent of agents) {
    const { items: [operation] } = await until(() => agent.list(), ({ items: [item] }) => {
      if (item?.problem !== undefined) t.comment(item.problem)
      return item?.task !== undefined && item.problem === undefined
    })
    t.match(operation, { operationId: ids[0], kind: 'rebalance', volume: 'v0', task: { taskId: `start-${started}`, hostId: `host${started + 1}` }, complete: true, missing: Empty })
    t.same(operation?.nodes.map(node => node.host).sort(), ['node1', 'node2', 'node3'])
  }
})

t.test('a start while it runs claims it', async t => {
  const { items: [running] } = await until(() => two.list(), ({ items: [item] }) => item?.problem === undefined)
  t.equal(running?.state, 'running')
  t.match(await three.run('later', rebalance), { result: { operationId: running?.operationId, alreadyStarted: true } })
  t.match(await three.run('later-layout', fixLayout), { result: { operationId: running?.operationId, alreadyStarted: true } }, 'which fixes the layout as well')
})

t.test('while it runs there is a rate, and an estimate that says how it was made', async t => {
  const { items: [operation] } = await until(() => three.list(), ({ items: [item] }) => (item?.state === 'running' && item.rate !== undefined && item.estimate !== undefined && item.totals.bytes > 0) || item?.state === 'completed')
  t.match(operation, { state: 'running', rate: { basis: /recent|whole-run/ }, estimate: { basis: 'even-fill-of-bricks' } })
})

t.test('at the end the numbers are those of gluster itself, on every host', async t => {
  await cluster.fast()
  for (const agent of agents) {
    const { items: [operation] } = await until(() => agent.list(), ({ items: [item] }) => item?.state === 'completed', 60)
    t.ok(operation !== undefined && operation.totals.files > 10)
    t.same(operation === undefined ? undefined : numbersOf(operation), await statusByHand(cluster))
  }
  t.ok(await allFilesAreThere(cluster))
})

t.test('every host was told of its start, its progress and its end', async t => {
  for (const { events } of agents) {
    await until(async () => events, all => all.some(({ event, operation }) => event === 'operation' && operation.state === 'completed'))
    const states = events.filter(({ event }) => event === 'operation').map(({ operation }) => operation.state)
    t.equal(states[0], 'running')
    t.equal(states.filter(state => state === 'completed').length, 1)
    t.ok(events.some(({ event }) => event === 'operationProgress'))
  }
})

t.test('the same task asked again by a restarted agent is answered with the operation it started', async t => {
  const { items: [operation] } = await one.list()
  const { taskId } = operation?.task ?? { taskId: '' }
  const again = await cluster.agent(2)
  t.match(await again.run(taskId, rebalance), { result: { operationId: operation?.operationId, alreadyStarted: true } })
  t.equal((await one.list()).items[0]?.operationId, operation?.operationId)

  const reused = await again.run(taskId, rebalance, { reused: true })
  t.not(reused.result?.['operationId'], operation?.operationId, 'but not when the caller wants it to run again')
  t.equal(reused.result?.['alreadyStarted'], undefined)
})

t.test('stop returns the final numbers, which nobody else can tell any more', async t => {
  await cluster.exec(1, 'sh', '-ec', 'for d in 1 2 3 4 5 6; do mkdir -p /srv/mnt/more$d; for f in $(seq 20); do head -c 1000000 /dev/urandom > /srv/mnt/more$d/$f; done; done')
  await cluster.gluster(1, 'volume', 'add-brick', 'v0', 'node1:/srv/3/v0', 'node2:/srv/3/v0')
  await cluster.slow(40)
  const { result } = await one.run('again', rebalance)
  await until(() => two.list(), ({ items: [item] }) => item !== undefined && item.operationId === result?.['operationId'] && item.totals.files > 0)
  const stopped = await three.run('stop', { kind: 'gluster.stopVolumeRebalance', volume: 'v0' })
  await cluster.fast()
  t.match(stopped, { result: { operationId: result?.['operationId'], final: { state: 'stopped', complete: true, missing: Empty } } })
  const final = stopped.result?.['final'] as FinalNumbers
  t.ok(final.totals.files > 0)
  t.equal(final.totals.files, final.nodes.reduce((all, node) => all + node.files, 0))
  await t.rejects(cluster.gluster(1, 'volume', 'rebalance', 'v0', 'status'), /Rebalance not started/)
  t.same((await three.list()).items, [])
  t.match(await three.run('stop2', { kind: 'gluster.stopVolumeRebalance', volume: 'v0' }), { error: { code: 'operation-not-running' } })
  await until(async () => one.events, all => all.at(-1)?.operation.state === 'gone')
  t.equal(three.events.filter(({ event }) => event === 'operation').at(-1)?.operation.state, 'stopped', 'the host that stopped it tells the numbers')
})

t.test('an operation started by hand on another host is seen and told', async t => {
  const id = /ID: ([0-9a-f-]{36})/.exec(await cluster.gluster(2, 'volume', 'rebalance', 'v0', 'start'))?.[1]
  const { items: [operation] } = await until(() => one.list(), ({ items: [item] }) => item?.operationId === id)
  t.equal(operation?.task, undefined)
  await until(async () => three.events, all => all.some(({ event, operation }) => event === 'operation' && operation.operationId === id), 60)
  await until(() => one.list(), ({ items: [item] }) => item?.state === 'completed', 60)
  t.ok(await allFilesAreThere(cluster))
})

t.test('a fix-layout is never taken for completed while a host is at it', async t => {
  await cluster.exec(1, 'sh', '-ec', 'for d in $(seq 150); do mkdir -p /srv/mnt/deep/$d/a/b/c; done')
  await cluster.slow(2)
  const { result } = await one.run('layout', fixLayout)
  const seen: string[] = []
  await until(async () => {
    const { items: [operation] } = await two.list()
    const xml = await cluster.gluster(2, '--xml', 'volume', 'rebalance', 'v0', 'status')
    const statuses = [...xml.matchAll(/<node>.*?<status>(\d+)<\/status>/gs)].map(([, status]) => status)
    if (operation === undefined || operation.operationId !== result?.['operationId']) return undefined
    seen.push(operation.state)
    if (operation.state === 'completed') t.notOk(statuses.includes('5'), 'whoever was done then is not at it later')
    return operation
  }, operation => operation?.state === 'completed', 90)
  await cluster.fast()
  t.match((await two.list()).items[0], { operationId: result?.['operationId'], kind: 'fix-layout', task: { taskId: 'layout' } })
  t.ok(seen.includes('running'), 'it was seen at work')
})

t.test('volumes are told with bricks, hosts, space and what runs on them', async t => {
  const { items } = await two.volumes()
  const volume = items.find(item => item.volume === 'v0')
  t.match(volume, { type: 'Distribute', state: 'started', operations: [{ kind: 'fix-layout', state: 'completed' }] })
  t.match(volume?.bricks[0], { brick: 'node1:/srv/1/v0', host: 'node1', online: true, bytesTotal: Number, bytesFree: Number })
  const total = volume?.bricks.reduce((all, brick) => all + (brick.bytesTotal ?? 0), 0)
  t.equal(volume?.bytesTotal, total)
})
