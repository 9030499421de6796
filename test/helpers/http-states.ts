import type { TaskSpec } from '../../src/api/kinds.ts'
import { taskStates, type TaskState } from '../../src/api/task.ts'
import { AppError } from '../../src/errors.ts'
import type { Run } from '../../src/tasks/run.ts'
import { turn, type Registered } from './http-agent.ts'

/** Every state that a record can be in, and that of an id that nobody has. */
export const existing = ['none', ...taskStates] as const
export type Existing = typeof existing[number]

export const refusal = new AppError('no-space', 'There is no space for b.raw: 5 bytes are missing.', { members: { bytesMissing: 5 } })

/** Brings a task into a state, by the ways that lead there. */
export async function drive ({ registry, bodies }: Registered, id: string, spec: TaskSpec, state: TaskState): Promise<Run> {
  const { run } = registry.claim(id, spec)
  const body = await bodies.of(id)
  if (state === 'pending') return run
  if (state === 'rejected') {
    await body.fail(refusal)
    return run
  }
  body.accept()
  if (state === 'canceling' || state === 'canceled') registry.cancel(run)
  if (state === 'canceled') await body.yield()
  if (state === 'succeeded') await body.succeed()
  if (state === 'failed') await body.fail(new AppError('copy-failed', 'It broke.'))
  await turn()
  return run
}
