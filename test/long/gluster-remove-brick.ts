import t from 'tap'
import type { FinalNumbers } from '../../src/api/gluster-kinds.ts'
import { startCluster, until } from '../gluster/cluster/cluster.ts'
import { fillVolume } from '../gluster/cluster/rebalance.ts'
import { Empty } from '../helpers/empty.ts'

t.setTimeout(300_000)

const cluster = await startCluster(t)
const [one, three] = await Promise.all([cluster.agent(1), cluster.agent(3)])

const volume = 'v0'
const bricks = ['node2:/srv/1/v0']
const start = { kind: 'gluster.startRemoveBrick', volume, bricks } as const
const stop = { kind: 'gluster.stopRemoveBrick', volume, bricks } as const
const commit = { kind: 'gluster.commitRemoveBrick', volume, bricks, force: false } as const

await fillVolume(cluster, { perDirectory: 20, bytes: 1_000_000, hosts: [1, 2, 3] })

t.test('a brick that is not there, and a removal that was not started, are refused by name', async t => {
  t.match(await one.run('a', { ...start, bricks: ['node2:/srv/1/nope'] }), { error: { code: 'brick-not-found', changed: false, detail: /node1:\/srv\/1\/v0/ } })
  t.match(await one.run('a', stop), { error: { code: 'operation-not-running', changed: false } })
  t.match(await one.run('a', commit), { error: { code: 'operation-not-running', changed: false } })
  t.match(await one.run('a', { ...commit, bricks: ['node2:/srv/1/nope'] }), { error: { code: 'brick-not-found', changed: false } })
})

t.test('a removal is started once, and told by every host', async t => {
  await cluster.slow(8)
  const replies = await Promise.all([one.run('first', start), three.run('second', start)])
  const [id, other] = replies.map(reply => reply.result?.['operationId'])
  t.match(id, /^[0-9a-f-]{36}$/)
  t.equal(id, other)
  t.equal(replies.filter(reply => reply.result?.['alreadyStarted'] === true).length, 1)
  for (const agent of [one, three]) {
    const { items: [operation] } = await until(() => agent.list(), ({ items: [item] }) => item?.task !== undefined && item.problem === undefined)
    t.match(operation, { operationId: id, kind: 'remove-brick', bricks, state: 'running', complete: true, missing: Empty, task: { taskId: /first|second/ } })
    t.same(operation?.nodes.map(node => node.host), ['node2'])
  }
  t.match(await one.run('more', { ...start, bricks: ['node1:/srv/1/v0'] }), { error: { code: 'remove-brick-uncommitted', operationId: id } })
  t.match(await one.run('rebalance', { kind: 'gluster.startVolumeRebalance', volume, mode: 'rebalance', force: false }), { error: { code: 'remove-brick-uncommitted' } })
})

t.test('it cannot be committed while files are being moved, and it is told how many are left', async t => {
  const { error } = await three.run('too-early', commit)
  t.match(error, { code: 'remove-brick-unfinished', changed: false, detail: /it is running/, filesMoved: Number, filesLeftAtMost: Number })
  const left = Number((await cluster.exec(2, 'sh', '-c', "find /srv/1/v0 -type f -not -path '*/.glusterfs/*' | wc -l")).stdout)
  t.ok(Number(error?.['filesLeftAtMost']) >= left)
})

t.test('a stop returns the final numbers', async t => {
  const { items: [operation] } = await until(() => one.list(), ({ items: [item] }) => item !== undefined && item.totals.files > 0)
  const { result } = await three.run('stop', stop)
  t.match(result, { operationId: operation?.operationId, final: { state: 'stopped', complete: true } })
  t.ok((result?.['final'] as FinalNumbers).totals.files > 0)
  t.same((await three.list()).items, [])
})

t.test('after all files were moved it can be committed, from any host, and sent again', async t => {
  await cluster.fast()
  // A removal that was stopped leaves files where no lookup expects them: Gluster wants a rebalance before the next one.
  const { error } = await one.run('tidy', { kind: 'gluster.startVolumeRebalance', volume, mode: 'rebalance', force: true })
  t.equal(error, undefined, 'although the removal that was stopped may still be coming to its end')
  await until(() => one.list(), ({ items: [item] }) => item?.kind === 'rebalance' && item.state === 'completed', 90)
  const { result } = await one.run('again', start)
  await until(() => three.list(), ({ items: [item] }) => item?.operationId === result?.['operationId'] && item?.state === 'completed', 90)
  t.match(await three.run('commit', commit), { result: { operationId: result?.['operationId'], final: { state: 'completed' } } })
  const info = await cluster.gluster(1, 'volume', 'info', 'v0')
  t.notMatch(info, 'node2:/srv/1/v0')
  t.match(await one.run('commit', commit), { result: { operationId: result?.['operationId'], alreadyDone: true } })
  t.match(await (await cluster.agent(1)).run('again', start), { result: { operationId: result?.['operationId'], alreadyStarted: true } }, 'the start is answered, too, by an agent that was restarted')
  const check = await cluster.exec(1, 'sh', '-ec', 'cd /srv/mnt; sha256sum --quiet -c /run/sums')
  t.same(check, { code: 0, stdout: '', stderr: '' }, 'the data is all there')
})

t.test('with force the bricks are removed whatever is on them', async t => {
  await cluster.gluster(1, 'volume', 'create', 'r1', 'replica', '3', 'node1:/srv/2/r1', 'node2:/srv/2/r1', 'node3:/srv/2/r1')
  await cluster.gluster(1, 'volume', 'start', 'r1')
  const reduce = { volume: 'r1', bricks: ['node3:/srv/2/r1'], replica: 2 } as const
  t.match(await one.run('reduce', { kind: 'gluster.startRemoveBrick', ...reduce }), { error: { code: 'gluster-refused', detail: /Migration of data is not needed/ } })
  t.match(await one.run('reduce', { kind: 'gluster.commitRemoveBrick', ...reduce, force: true }), { result: Object })
  t.match(await cluster.gluster(1, 'volume', 'info', 'r1'), /1 x 2 = 2/)
})
