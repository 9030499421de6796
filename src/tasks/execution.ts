import type { Progress } from '../api/task.ts'
import type { TaskResult, TaskSpec } from '../api/kinds.ts'
import { AppError, problemOf } from '../errors.ts'
import { AcceptDeadline } from './accept-deadline.ts'
import type { KindDefinition, TaskLog } from './kind.ts'
import type { Queue } from './queue.ts'
import type { Run } from './run.ts'
import { Throttle } from './throttle.ts'

/** Published progress of one task, its places in a queue included: at most this often, the newest wins. */
const progressIntervalMs = 500

/** A task in a queue, and how it hears of its place there. */
export interface Waiter {
  queuePosition: number
  readonly progress: Throttle<Progress>
}

export interface Execution {
  run: Run
  definition: KindDefinition<TaskSpec, TaskResult>
  queue: Queue<Waiter> | undefined
  /** An accept that takes longer is decided then: nobody may be left without an answer by a storage that hangs. */
  acceptDeadlineMs: number
  log: TaskLog
  moved: (made: boolean) => void
  progressed: (run: Run) => void
}

/**
 * Runs a task body and turns its outcome into the task's. Resolves when the body has settled, which may be after the
 * task was decided: until then its images stay in use.
 */
export async function execute (execution: Execution): Promise<void> {
  const { run, queue, progressed } = execution
  const progress = new Throttle<Progress>(progressIntervalMs, latest => {
    run.publish(latest)
    progressed(run)
  })
  if (queue === undefined) return await perform(execution, { progress, giveUpPlace: () => {} })
  const waiter: Waiter = { queuePosition: 0, progress }
  const leave = () => {
    queue.leave(waiter)
    tellPositions(queue)
  }
  const isFirst = await turn(execution, queue, waiter)
  try {
    if (isFirst) {
      // it waits no more
      progress.discard()
      if (run.wire().progress !== undefined) run.publish(undefined)
      await perform(execution, { progress, giveUpPlace: leave })
    }
  } finally {
    leave()
  }
}

/** Waits for the queue to let the run in; false if it was canceled before. */
async function turn ({ run, moved }: Execution, queue: Queue<Waiter>, waiter: Waiter): Promise<boolean> {
  return await new Promise<boolean>(resolve => {
    const { signal } = run.controller
    const cancel = () => {
      queue.leave(waiter)
      waiter.progress.stop()
      moved(run.move('canceled', Date.now()))
      tellPositions(queue)
      resolve(false)
    }
    let begun = false
    queue.enter(waiter, () => {
      begun = true
      signal.removeEventListener('abort', cancel)
      resolve(true)
    })
    if (begun) return
    signal.addEventListener('abort', cancel, { once: true })
    tellPositions(queue)
  })
}

/** Every end of a task moves all that wait behind it, perhaps many times a second: that is told as seldom as any progress. */
function tellPositions (queue: Queue<Waiter>): void {
  let queuePosition = 0
  for (const waiter of queue.waiting) {
    queuePosition++
    if (waiter.queuePosition === queuePosition) continue
    waiter.queuePosition = queuePosition
    waiter.progress.push({ phase: 'queued', queuePosition })
  }
}

async function perform ({ run, definition, acceptDeadlineMs: usualDeadlineMs, log, moved }: Execution, { progress, giveUpPlace }: { progress: Throttle<Progress>, giveUpPlace: () => void }): Promise<void> {
  const { signal } = run.controller
  const acceptDeadlineMs = definition.acceptDeadlineMs ?? usualDeadlineMs
  const finish = (state: 'succeeded' | 'failed' | 'canceled' | 'rejected', outcome: { result?: TaskResult, error?: unknown } = {}) => {
    progress.stop()
    moved(run.move(state, Date.now(), {
      ...(outcome.result === undefined ? {} : { result: outcome.result }),
      ...('error' in outcome && { error: problemOf(outcome.error) })
    }))
  }
  let accepted = false
  let stalledProcess: Progress['stalledProcess']
  const { answers } = definition
  const deadline = new AcceptDeadline({
    ms: acceptDeadlineMs,
    probe: answers === undefined ? undefined : async () => { await answers(run.spec) },
    passed: (waitedMs, isAnswering) => {
      const error = overdue(waitedMs, isAnswering, stalledProcess)
      finish('failed', { error })
      run.controller.abort(error)
    }
  })

  try {
    signal.throwIfAborted()
    const result = await definition.run(run.spec, {
      id: run.id,
      reused: run.replaces !== undefined,
      signal,
      log,
      accepting: () => { if (!accepted && !run.finished) deadline.refresh() },
      accepted: of => {
        accepted = true
        deadline.stop()
        moved(run.accept(Date.now(), of))
      },
      progress: latest => {
        stalledProcess = latest.stalledProcess
        // an accepted copy that hangs makes no load: its place is for others, or a few on a dead domain would keep all waiting.
        // Not before it is accepted: whoever tries again and again would fill the host with workers that hang
        if (latest.stalledSince !== undefined && accepted) giveUpPlace()
        if (!run.finished) progress.push(latest)
      },
      onTuning: listener => {
        run.tuningListener = listener
        if (run.tuning !== undefined) listener(run.tuning)
      }
    })
    progress.flush()
    // a body that had nothing to do may end without having said that it was accepted
    moved(run.accept(Date.now()))
    finish('succeeded', { result })
  } catch (error) {
    progress.flush()
    // after the deadline that is an answer which nobody waits for any more, and `finish` changes nothing
    if (signal.aborted && error === signal.reason) return finish('canceled')
    const refused = error instanceof AppError && !accepted && !error.changed
    if (!(error instanceof AppError)) log.error({ err: error, task: run.id }, 'task body threw an unexpected error')
    finish(refused ? 'rejected' : 'failed', { error })
  } finally {
    deadline.stop()
    progress.stop()
    run.tuningListener = undefined
  }
}

function overdue (ms: number, isAnswering: boolean, stalledProcess: Progress['stalledProcess']): AppError {
  const doubt = 'Whether something was changed is not known; look at the image before you send the command again.'
  if (stalledProcess?.state === 'stopped') {
    const { pid, name } = stalledProcess
    const words = `Not accepted within ${ms} ms: ${name} (process ${pid}) is stopped. SIGCONT lets it go on. ${doubt}`
    return new AppError('accept-overdue', words, { members: { stalledProcess } })
  }
  return isAnswering
    ? new AppError('accept-overdue', `Not accepted within ${ms} ms, although the storage answers: the host is busy. ${doubt}`)
    : new AppError('storage-unresponsive', `Not accepted within ${ms} ms: the storage does not answer. ${doubt}`)
}
