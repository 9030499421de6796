import t from 'tap'
import type { NodeState } from '../../src/api/operation.ts'
import { readPool, readRebalance, readRemoveBrick, readTasks, readVolumes } from '../../src/gluster/answers.ts'
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
    disconnected: new Set(hosts.filter(host => !host.connected).map(host => host.hostUuid)),
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

t.test('a host that joined the volume later takes no part, and is not missing', async t => {
  const { task, report, ...rest } = observe({ info: 'rb3-info', tasks: 'added3-tasks-n2', status: 'added3-status-n1', pool: 'pool-list' })
  t.equal(rest.volume.bricks.length, 3)
  t.equal(report?.nodes.length, 2)
  t.match(describeOperation({ ...rest, task, ...(report !== undefined && { report }) }), { complete: true, missing: Empty, state: 'completed', totals: { files: 28, bytes: 28000000, scanned: 202, skipped: 10, runtimeSeconds: 2 } })
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
  const silent = describeOperation(observe({ info: 'rb3-info', tasks: 'rb3-tasks-down', status: 'rb3-status-down', pool: 'pool-list' }, { disconnected: new Set(['5e538d17-8db1-44fd-9f64-ed2f7fd14c90']) }))
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
