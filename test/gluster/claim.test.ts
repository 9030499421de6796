import t from 'tap'
import { decide, earlierRun, recentAt, type Decision } from '../../src/gluster/claim.ts'
import type { Marks, StartedMark, StartingMark } from '../../src/gluster/marks.ts'

const at = '2026-01-01T00:00:00.000Z'
const always = (): boolean => true
const request = { taskId: 'mine', what: 'rebalance' }

function started (operationId: string, startId: string, of: Partial<StartedMark> = {}): StartedMark {
  return { taskId: 'other', hostId: 'h', at, what: 'rebalance', operationId, startId, ...of }
}

function starting (startId: string, of: Partial<StartingMark> = {}): StartingMark {
  return { taskId: 'other', hostId: 'h', at, what: 'rebalance', startId, ...of }
}

const cases: Array<[title: string, decision: Decision, sight: { first?: Marks, firstOperation?: string, now?: Marks, operation?: string }]> = [
  ['nothing is there', 'start', {}],
  ['an old one, never marked', 'start', { firstOperation: 'X', operation: 'X' }],
  ['an old one, signed long ago', 'start', { first: { started: started('X', '1') }, firstOperation: 'X', now: { started: started('X', '1') }, operation: 'X' }],
  ['one that was signed since', 'claim', { firstOperation: 'X', now: { started: started('X', '1') }, operation: 'X' }],
  ['one that was signed since, but does something else', 'start', { firstOperation: 'X', now: { started: started('X', '1', { what: 'fix-layout' }) }, operation: 'X' }],
  ['one that came between two looks, by other means', 'claim', { firstOperation: 'W', operation: 'X' }],
  ['the first one ever came between two looks', 'claim', { operation: 'X', firstOperation: '' }],
  ['somebody announced a start and has not signed', 'wait', { firstOperation: 'X', now: { starting: starting('1') }, operation: 'X' }],
  ['somebody announced a start that has not happened', 'start', { firstOperation: 'X', now: { starting: starting('1', { previous: 'X' }) }, operation: 'X' }],
  ['somebody announced something else', 'start', { firstOperation: 'X', now: { starting: starting('1', { what: 'fix-layout' }) }, operation: 'X' }],
  ['this task announced it, before a restart of the agent', 'claim', { firstOperation: 'X', now: { starting: starting('1', { taskId: 'mine', previous: 'W' }) }, operation: 'X' }],
  ['this task announced one that was signed, and a newer one came by other means', 'start', { firstOperation: 'X', now: { starting: starting('1', { taskId: 'mine' }), started: started('W', '1') }, operation: 'X' }],
  ['the operation was stopped', 'start', { first: { started: started('X', '1') }, firstOperation: 'X', now: { started: started('X', '1'), starting: starting('2') } }]
]

for (const [title, decision, { first = {}, firstOperation, now = {}, operation }] of cases) {
  t.test(`${title}: ${decision}`, async t => {
    t.equal(decide({ request, firstMarks: first, firstOperation, marks: now, operation }, always), decision)
  })
}

t.test('an announcement from long ago counts for nothing', async t => {
  t.equal(decide({ request, firstMarks: {}, firstOperation: 'X', marks: { starting: starting('1', { taskId: 'mine' }) }, operation: 'X' }, () => false), 'start')
})

t.test('a task id stands for what it started while it is remembered', async t => {
  const marks = { started: started('X', '1', { taskId: 'mine' }) }
  t.equal(earlierRun(marks, request, always), 'X')
  t.equal(earlierRun(marks, { ...request, what: 'fix-layout' }, always), undefined)
  t.equal(earlierRun(marks, { ...request, taskId: 'other' }, always), undefined)
  t.equal(earlierRun(marks, request, () => false), undefined)
  t.equal(earlierRun({}, request, always), undefined)
  t.equal(earlierRun({ started: started('X', '1'), claimed: started('Y', '2', { taskId: 'mine' }) }, request, always), 'Y', 'or claimed')
  const now = Date.parse(at)
  t.same([0, 899_000, 901_000, -899_000, -901_000].map(later => recentAt(now + later, 900)(marks.started)), [true, true, false, true, false])
})
