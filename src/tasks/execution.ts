import type { Progress } from '../api/task.ts'
import type { TaskResult, TaskSpec } from '../api/kinds.ts'
import { AppError, problemOf } from '../errors.ts'
import type { KindDefinition, TaskLog } from './kind.ts'
import type { Queue } from './queue.ts'
import type { Run } from './run.ts'

/** Published progress of one task: at most this often, the newest wins. */
const progressIntervalMs = 500

export interface Execution {
  run: Run
  definition: KindDefinition<TaskSpec, TaskResult>
  queue: Queue<Run> | undefined
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
  const { run, queue } = execution
  if (queue === undefined) return await perform(execution)
  const isFirst = await turn(execution, queue)
  try {
    if (isFirst) {
      // it waits no more
      if (run.wire().progress !== undefined) run.publish(undefined)
      await perform(execution)
    }
  } finally {
    queue.leave(run)
    tellPositions(queue, execution.progressed)
  }
}

/** Waits for the queue to let the run in; false if it was canceled before. */
async function turn ({ run, moved, progressed }: Execution, queue: Queue<Run>): Promise<boolean> {
  return await new Promise<boolean>(resolve => {
    const { signal } = run.controller
    const cancel = () => {
      queue.leave(run)
      moved(run.move('canceled', Date.now()))
      tellPositions(queue, progressed)
      resolve(false)
    }
    let begun = false
    queue.enter(run, () => {
      begun = true
      signal.removeEventListener('abort', cancel)
      resolve(true)
    })
    if (begun) return
    signal.addEventListener('abort', cancel, { once: true })
    tellPositions(queue, progressed)
  })
}

function tellPositions (queue: Queue<Run>, progressed: (run: Run) => void): void {
  let queuePosition = 0
  for (const run of queue.waiting) {
    queuePosition++
    if (run.wire().progress?.queuePosition === queuePosition) continue
    run.publish({ phase: 'queued', queuePosition })
    progressed(run)
  }
}

async function perform ({ run, definition, queue, acceptDeadlineMs: usualDeadlineMs, log, moved, progressed }: Execution): Promise<void> {
  const { signal } = run.controller
  const acceptDeadlineMs = definition.acceptDeadlineMs ?? usualDeadlineMs
  const finish = (state: 'succeeded' | 'failed' | 'canceled' | 'rejected', outcome: { result?: TaskResult, error?: unknown } = {}) => {
    progress.stop()
    moved(run.move(state, Date.now(), {
      ...(outcome.result === undefined ? {} : { result: outcome.result }),
      ...('error' in outcome && { error: problemOf(outcome.error) })
    }))
  }
  const progress = new Throttle(progressIntervalMs, latest => {
    run.publish(latest)
    progressed(run)
  })
  // an accepted copy that hangs makes no load: its place is for others, or a few on a dead domain would keep all waiting.
  // Not before it is accepted: whoever tries again and again would fill the host with workers that hang
  const giveUpPlace = () => {
    if (queue === undefined) return
    queue.leave(run)
    tellPositions(queue, progressed)
  }
  let accepted = false
  const deadline = setTimeout(() => {
    const error = new AppError('storage-unresponsive', `Not accepted within ${acceptDeadlineMs} ms: the storage does not answer. Whether something was changed is not known; look at the image before you send the command again.`)
    finish('failed', { error })
    run.controller.abort(error)
  }, acceptDeadlineMs)

  try {
    signal.throwIfAborted()
    const result = await definition.run(run.spec, {
      id: run.id,
      reused: run.replaces !== undefined,
      signal,
      log,
      accepted: () => {
        accepted = true
        clearTimeout(deadline)
        moved(run.accept(Date.now()))
      },
      progress: latest => {
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
    clearTimeout(deadline)
    progress.stop()
    run.tuningListener = undefined
  }
}

/** Passes on the newest of what it is given, at most once an interval. */
class Throttle {
  readonly #intervalMs: number
  readonly #publish: (progress: Progress) => void
  #latest: Progress | undefined
  #timer: NodeJS.Timeout | undefined

  constructor (intervalMs: number, publish: (progress: Progress) => void) {
    this.#intervalMs = intervalMs
    this.#publish = publish
  }

  push (progress: Progress): void {
    this.#latest = progress
    if (this.#timer === undefined) this.#send()
  }

  /** Sends what is waiting now, so that the last numbers are seen before the end is. */
  flush (): void {
    if (this.#latest !== undefined) this.#send()
  }

  stop (): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#latest = undefined
  }

  #send (): void {
    clearTimeout(this.#timer)
    const latest = this.#latest
    this.#latest = undefined
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      if (this.#latest !== undefined) this.#send()
    }, this.#intervalMs)
    if (latest !== undefined) this.#publish(latest)
  }
}
