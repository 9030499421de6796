import t from 'tap'
import type { NodeState } from '../../src/api/operation.ts'
import { readPool, readRebalance, readRemoveBrick, readTasks, readVolumes } from '../../src/gluster/answers.ts'
import { foldHosts, formatMark, optionOf } from '../../src/gluster/marks.ts'
import { describeOperation, namesOf, nodeState, stateOf, type Observation } from '../../src/gluster/observe.ts'
import { answerOf } from './fixture.ts'
import { Empty } from '../helpers/empty.ts'

const observedAt = '2026-01-01T00:00:00.000Z'

/** What one host saw, from captures of the same moment. */
function observe (captures: { info: string, tasks: string, status?: string, pool: string }, more: Partial<Observation> = {}): Observation {
  const [volume] = readVolumes(answerOf(captures.info)).filter(({ volume }) => volume === 'v0')
  const task = readTasks(answerOf(captures.tasks)).get('v0')?.[0]
  if (volume === undefined || task === undefined) throw new Error('captures without volume or task')
  const hosts = readPool(answerOf(captures.pool))
  const read = task.type === 'rebalance' ? readRebalance : readRemoveBrick
  return {
    volume,
    task,
    ...(captures.status !== undefined && { report: read(answerOf(captures.status)) }),
    views: [],
    rejected: new Set(hosts.filter(host => host.rejected).map(host => host.hostUuid)),
    nameOf: namesOf([volume], hosts, 'here'),
    observedAt,
    ...more
  }
}

t.test('the state of every combination of two hosts', async t => {
  const words: NodeState[] = ['running', 'completed', 'stopped', 'failed', 'not-started', 'unknown']
  for (const one of words) {
    for (const other of words) {
      const both = [one, other]
      const expected = both.includes('running')
        ? 'running'
        : both.includes('failed')
          ? 'failed'
          : both.includes('stopped')
            ? 'stopped'
            : both.includes('unknown') ? 'unknown' : both.includes('completed') ? 'completed' : 'not-started'
      t.equal(stateOf(both, true), expected, both.join(' and '))
      t.not(stateOf(both, false), 'completed', `${both.join(' and ')}, one silent`)
    }
  }
  t.equal(stateOf([], true), 'unknown')
  t.equal(stateOf(['completed'], false), 'unknown')
})

t.test('the numbers of Gluster for states', async t => {
  t.same([...Array(13).keys()].map(nodeState), ['not-started', 'running', 'stopped', 'completed', 'failed', 'running', 'stopped', 'completed', 'failed', 'unknown', 'unknown', 'unknown', 'unknown'])
})

t.test('a host that is down is missing by name, and nothing is completed without it', async t => {
  const seen = describeOperation(observe({ info: 'back3-info-n2', tasks: 'down3-tasks-n1', status: 'down3-status-n1', pool: 'down3-pool-n1' }))
  t.match(seen, { complete: false, missing: ['node2'], state: 'running' })
  t.same(seen.nodes.map(node => node.host), ['node3', 'node1'], 'localhost has a name')
  const done = observe({ info: 'back3-info-n2', tasks: 'down3-tasks-n1', status: 'down3-status-n1', pool: 'down3-pool-n1' })
  const report = { operationId: done.task.operationId, nodes: done.report?.nodes.map(node => ({ ...node, status: 3 })) ?? [] }
  t.match(describeOperation({ ...done, report }), { complete: false, state: 'unknown' })
})

t.test('a host that is silent has joined the volume later if a mark proves it, and is missing if not', async t => {
  const seen = observe({ info: 'rb3-info', tasks: 'added3-tasks-n2', status: 'added3-status-n1', pool: 'pool-list' })
  const told = seen.report?.nodes.map(node => node.hostUuid) ?? []
  t.equal(told.length, 2)
  t.equal(seen.volume.bricks.length, 3)
  const silent = seen.volume.bricks.find(brick => !told.includes(brick.hostUuid))
  const marked = (hosts: string | undefined, step = '', operationId = seen.task.operationId): Observation => {
    const mark = JSON.stringify({ taskId: 'a', hostId: 'h', at: observedAt, what: 'rebalance', operationId, hosts })
    return { ...seen, volume: { ...seen.volume, options: new Map([[`user.vdsm-tasks.rebalance${step}`, mark]]) } }
  }
  const before = foldHosts({ bricks: seen.volume.bricks.filter(brick => brick !== silent) })
  const numbers = { files: 28, bytes: 28000000, scanned: 202, skipped: 10, runtimeSeconds: 2 }
  for (const step of ['', '-claimed']) {
    t.match(describeOperation(marked(before, step)), { state: 'completed', complete: false, missing: Empty, joinedLater: ['node2'], totals: numbers }, step)
  }
  for (const unproven of [seen, marked(undefined), marked('nonsense'), marked(foldHosts(seen.volume)), marked(before, '', '00000000-0000-4000-8000-000000000000')]) {
    const operation = describeOperation(unproven)
    t.match(operation, { state: 'unknown', complete: false, missing: ['node2'], totals: numbers })
    t.equal(operation.joinedLater, undefined)
  }
})

t.test('a fix-layout of which no host tells that it is one is known by its mark', async t => {
  const base = observe({ info: 'back3-info-n2', tasks: 'down3-tasks-n1', status: 'down3-status-n1', pool: 'down3-pool-n1' })
  const { operationId } = base.task
  const kind = (what: string) => {
    const mark = formatMark({ taskId: 'a', hostId: 'h', at: observedAt, what, operationId })
    return describeOperation({ ...base, volume: { ...base.volume, options: new Map([[optionOf('rebalance', 'started'), mark]]) } }).kind
  }
  t.equal(kind('rebalance'), 'rebalance')
  t.equal(kind('fix-layout'), 'fix-layout')
})

t.test('a fix-layout is in progress as long as one host is, whatever the aggregate says', async t => {
  const status = readRebalance(answerOf('fixlayout-status-running'))
  const base = observe({ info: 'back3-info-n2', tasks: 'fixlayout-tasks', pool: 'pool-list' })
  t.match(describeOperation({ ...base, volume: { ...base.volume, bricks: [] }, report: status }), { kind: 'fix-layout', state: 'running' })
})

t.test('hosts that tell of another operation are named, and their numbers do not count', async t => {
  const base = observe({ info: 'back3-info-n2', tasks: 'dis-tasks-n1', status: 'dis-status-n1', pool: 'pool-list' })
  const other = readTasks(answerOf('dis-tasks-n2')).get('v0')?.[0]
  if (other === undefined) throw new Error('no task')
  const [one, two, three] = base.volume.bricks.map(brick => brick.hostUuid)
  const views = [{ hostUuid: one ?? '', task: base.task }, { hostUuid: two ?? '', task: other }, { hostUuid: three ?? '' }]
  const seen = describeOperation({ ...base, views })
  t.same(seen.disagreement, [{ host: 'node2', operationId: other.operationId }, { host: 'node3' }])
  t.match(seen, { complete: false, missing: ['node2', 'node3'], state: 'failed' })
  t.same(seen.nodes.map(node => node.host), ['node1'])
  t.equal(describeOperation(base).disagreement, undefined)

  const { report, ...foreign } = base
  t.match(describeOperation({ ...foreign, task: other, views }), { operationId: other.operationId, state: 'unknown', nodes: Empty, complete: false, missing: ['node1', 'node2', 'node3'] }, 'one that only another host knows')
})

t.test('of a brick removal only the hosts of the bricks are expected', async t => {
  const seen = describeOperation(observe({ info: 'rb3-info', tasks: 'rb3-tasks', status: 'rb3-status', pool: 'pool-list' }))
  t.match(seen, { kind: 'remove-brick', bricks: ['node2:/srv/1/v0'], state: 'running', complete: true, missing: Empty })
  const silent = describeOperation(observe({ info: 'rb3-info', tasks: 'rb3-tasks-down', status: 'rb3-status-down', pool: 'pool-list' }))
  t.match(silent, { state: 'unknown', complete: false, missing: ['node2'], nodes: Empty })
  const { report: _, ...unreported } = observe({ info: 'rb3-info', tasks: 'rb3-tasks', status: 'rb3-status', pool: 'pool-list' })
  t.strictSame(describeOperation(unreported).missing, ['node2'], 'also when there is no report')
})

t.test('the mark names the task, unless it is that of another operation', async t => {
  const base = observe({ info: 'rb3-info', tasks: 'rb3-tasks', status: 'rb3-status', pool: 'pool-list' })
  const marked = (operationId: string): Observation => ({
    ...base,
    volume: { ...base.volume, options: new Map([['user.vdsm-tasks.remove-brick', JSON.stringify({ taskId: 'a', hostId: 'h', at: observedAt, what: 'x', operationId })]]) }
  })
  t.match(describeOperation(marked(base.task.operationId)), { task: { taskId: 'a', hostId: 'h' }, startedAt: observedAt })
  t.equal(describeOperation(marked('another')).task, undefined)
})

t.test('a peer that the cluster has rejected is named as such, and nothing is complete with it', async t => {
  const seen = observe({ info: 'rb3-info', tasks: 'rb3-tasks', status: 'rb3-status', pool: 'pool-list' })
  const [node] = seen.report?.nodes ?? []
  if (node === undefined) throw new Error('a capture without a host')
  t.match(describeOperation(seen), { complete: true, state: 'running' })
  const rejected = describeOperation({ ...seen, rejected: new Set([node.hostUuid]) })
  t.match(rejected, { complete: false, rejected: ['node2'], state: 'running' })
  t.strictSame(rejected.missing, [])
  const done = { ...node, status: 3 }
  const all = { ...seen, report: { operationId: seen.task.operationId, nodes: [done] } }
  t.match(describeOperation(all), { complete: true, state: 'completed' })
  t.match(describeOperation({ ...all, report: { ...all.report, unsure: true } }), { complete: false, state: 'unknown' })
  t.match(describeOperation({ ...all, rejected: new Set([node.hostUuid]) }), { complete: false, state: 'unknown' })
})

t.test('a claim adds to what is known of the start, and changes none of it', async t => {
  const seen = observe({ info: 'rb3-info', tasks: 'rb3-tasks', status: 'rb3-status', pool: 'pool-list' })
  const { operationId } = seen.task
  const mark = (taskId: string, at: string, of = operationId): string => JSON.stringify({ taskId, hostId: `${taskId}-host`, at, what: 'x', operationId: of })
  const startedAt = '2026-01-01T00:00:00.000Z'
  const claimedAt = '2026-01-02T00:00:00.000Z'
  const withMarks = (options: Record<string, string>): Observation => ({ ...seen, volume: { ...seen.volume, options: new Map(Object.entries(options)) } })
  const claimed = { 'user.vdsm-tasks.remove-brick-claimed': mark('other', claimedAt) }
  t.match(describeOperation(withMarks({ 'user.vdsm-tasks.remove-brick': mark('mine', startedAt), ...claimed })), {
    task: { taskId: 'mine', hostId: 'mine-host' }, startedAt, claimedBy: { taskId: 'other', hostId: 'other-host', claimedAt }
  })
  const byHand = describeOperation(withMarks(claimed))
  t.match(byHand, { claimedBy: { taskId: 'other' } })
  t.equal(byHand.task, undefined)
  t.equal(byHand.startedAt, undefined)
  const before = describeOperation(withMarks({ 'user.vdsm-tasks.remove-brick-claimed': mark('other', claimedAt, '00000000-0000-4000-8000-000000000000') }))
  t.equal(before.claimedBy, undefined, 'a claim of an earlier operation')
})
