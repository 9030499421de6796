import t from 'tap'
import { taskStates, type TaskState } from '../../src/api/task.ts'
import { canMove, isFinished } from '../../src/tasks/state.ts'

// from the row's state to the column's, as the design has it: y is a legal move
const table: Record<TaskState, Record<TaskState, 'y' | '-'>> = {
  pending: { pending: '-', running: 'y', canceling: 'y', succeeded: '-', failed: 'y', canceled: '-', rejected: 'y' },
  running: { pending: '-', running: '-', canceling: 'y', succeeded: 'y', failed: 'y', canceled: '-', rejected: '-' },
  canceling: { pending: '-', running: '-', canceling: '-', succeeded: 'y', failed: 'y', canceled: 'y', rejected: 'y' },
  succeeded: { pending: '-', running: '-', canceling: '-', succeeded: '-', failed: '-', canceled: '-', rejected: '-' },
  failed: { pending: '-', running: '-', canceling: '-', succeeded: '-', failed: '-', canceled: '-', rejected: '-' },
  canceled: { pending: '-', running: '-', canceling: '-', succeeded: '-', failed: '-', canceled: '-', rejected: '-' },
  rejected: { pending: '-', running: '-', canceling: '-', succeeded: '-', failed: '-', canceled: '-', rejected: '-' }
}

t.test('exactly the moves of the table are legal, over all pairs', async t => {
  for (const from of taskStates) {
    for (const to of taskStates) t.equal(canMove(from, to), table[from][to] === 'y', `${from} -> ${to}`)
  }
})

t.test('a state is finished when nothing leads out of it', async t => {
  t.same(taskStates.filter(isFinished), ['succeeded', 'failed', 'canceled', 'rejected'])
})

t.test('every state can be reached from pending, and every end from every active state by some way', async t => {
  const reachable = (from: TaskState): Set<TaskState> => {
    const seen = new Set([from])
    for (const state of seen) for (const to of taskStates) if (canMove(state, to)) seen.add(to)
    return seen
  }
  t.equal(reachable('pending').size, taskStates.length)
  for (const from of ['pending', 'running', 'canceling'] as const) {
    for (const end of ['succeeded', 'failed', 'canceled'] as const) t.ok(reachable(from).has(end), `${from} ... ${end}`)
  }
})
