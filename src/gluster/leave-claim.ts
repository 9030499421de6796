import { listHosts, setOption, type Target } from './commands.ts'
import { formatMark, optionOf, type Mark, type Marks } from './marks.ts'
import type { VerbContext, Workshop } from './verb.ts'

export interface Claim {
  workshop: Workshop
  context: VerbContext
  volume: string
  type: Target['type']
  /** What was asked for, as in a mark. */
  what: string
  marks: Marks
  operationId: string
  /** See `Mark`. */
  hosts?: string
}

/**
 * Notes on the volume that a task was answered with an operation that it has not started, and returns whether it did.
 * What the marks say of the start stays.
 *
 * Not while a host is away: an option that is set meanwhile makes it forget its part of the operation.
 */
export async function leaveClaim ({ workshop: { gluster, hostId }, context, volume, type, what, marks, operationId, hosts }: Claim): Promise<boolean> {
  const isKnown = [marks.started, marks.claimed].some(mark => mark?.operationId === operationId && mark.taskId === context.id)
  if (isKnown) return true
  try {
    if ((await listHosts(gluster)).some(({ connected }) => !connected)) return false
    const mark: Mark & { operationId: string } = { taskId: context.id, hostId, at: new Date().toISOString(), what, operationId, ...(hosts !== undefined && { hosts }) }
    await setOption(gluster, volume, optionOf(type, 'claimed'), formatMark(mark))
    return true
  } catch (error) {
    context.log.warn({ err: error, volume, operationId }, 'the volume could not be marked with the id of the task that claims its operation')
    return false
  }
}
