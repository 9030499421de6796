import type { Task, TaskState } from '../../src/api/task.ts'

/** A task in wire form; only what a test is about needs to be given. */
export function taskOf (of: Partial<Task> & { id: string }): Task {
  const state = of.state ?? 'running'
  return {
    runId: `run-${of.id}`,
    kind: 'storage.copyImage',
    spec: { kind: 'storage.copyImage', source: { domain: 'local', image: 'a.raw' }, target: { domain: 'local', image: 'b.raw' }, verify: false },
    specDigest: '0'.repeat(64),
    state,
    cancelable: true,
    createdAt: '2026-01-01T00:00:00.000Z',
    ...(isEnd(state) && { endedAt: '2026-01-01T00:00:01.000Z' }),
    revision: 0,
    tick: 0,
    instance: 'here',
    ...of
  }
}

function isEnd (state: TaskState): boolean {
  return state !== 'pending' && state !== 'running' && state !== 'canceling'
}
