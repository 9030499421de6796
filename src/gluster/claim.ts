import type { Mark, Marks, StartingMark } from './marks.ts'

/** What is known when a rebalance is to be started, and none is running. */
export interface Sight {
  request: Pick<Mark, 'taskId' | 'what'>
  /** The marks at the moment the request came: they are read without a lock. */
  firstMarks: Marks
  /** The operation that Gluster told of when it first answered the request; that may have taken a while. */
  firstOperation: string | undefined
  marks: Marks
  /** The operation that Gluster tells of now, ended. */
  operation: string | undefined
}

export type Decision = 'start' | 'claim' | 'wait'

/**
 * Whether the operation that is there was started since the request came, and so is what was asked for.
 *
 * Starting one locks everybody else out for ten seconds, in which a small volume is rebalanced: of hosts that were
 * told to start at the same instant, the second finds an operation that has ended, and must tell it from one that had
 * ended before. Ids and marks say so.
 */
export function decide ({ request, firstMarks, firstOperation, marks, operation }: Sight, isRecent: (mark: Mark) => boolean): Decision {
  if (operation === undefined) return 'start'
  const { started } = marks
  if (started?.operationId === operation) {
    const isNew = firstMarks.started?.operationId !== operation
    return isNew && started.what === request.what ? 'claim' : 'start'
  }
  if (operation !== firstOperation) return 'claim'
  const announced = unsigned(marks)
  if (announced === undefined || !isRecent(announced) || announced.what !== request.what || announced.previous === operation) return 'start'
  // A start was announced, and an operation has come since that nobody has signed: this task's own, by an agent that
  // was restarted in between, or that of an agent which is about to sign.
  return announced.taskId === request.taskId ? 'claim' : 'wait'
}

/** A start that was announced and is not known to have happened. */
export function unsigned ({ starting, started }: Marks): StartingMark | undefined {
  return starting?.startId === started?.startId ? undefined : starting
}

/** The operation that this very request has started or claimed before, if that is recent. */
export function earlierRun ({ started, claimed }: Marks, { taskId, what }: Sight['request'], isRecent: (mark: Mark) => boolean): string | undefined {
  return [started, claimed].find(mark => mark?.taskId === taskId && mark.what === what && isRecent(mark))?.operationId
}

/**
 * Whether a mark is as young as a task that is still remembered. The clock of another host may be ahead; all that a
 * wrong one can do is that a caller who asks again after a restart gets a new operation.
 */
export function recentAt (now: number, retentionSeconds: number): (mark: Mark) => boolean {
  return ({ at }) => Math.abs(now - Date.parse(at)) < retentionSeconds * 1000
}
