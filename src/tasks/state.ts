import type { TaskState } from '../api/task.ts'

/**
 * Every legal move of a task. `canceling` may still end in success or failure: a cancel asks, and what has
 * happened on the storage by then is the answer.
 */
export const transitions = {
  pending: ['running', 'canceling', 'rejected', 'failed'],
  running: ['canceling', 'succeeded', 'failed'],
  canceling: ['canceled', 'succeeded', 'failed', 'rejected'],
  succeeded: [],
  failed: [],
  canceled: [],
  rejected: []
} as const satisfies Record<TaskState, readonly TaskState[]>

/** Whether a task may go from one state to the other. */
export function canMove (from: TaskState, to: TaskState): boolean {
  return (transitions[from] as readonly TaskState[]).includes(to)
}

/** Whether nothing will happen any more. */
export function isFinished (state: TaskState): boolean {
  return transitions[state].length === 0
}
