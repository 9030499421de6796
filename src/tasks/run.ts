import { v7 as uuid } from 'uuid'
import type { TaskSpec, TaskResult } from '../api/kinds.ts'
import type { Problem } from '../api/problem.ts'
import type { Progress, Task, TaskState } from '../api/task.ts'
import { canMove, isFinished } from './state.ts'
import { etagOf } from './etag.ts'
import type { Accepted, Tuning } from './kind.ts'

/** What ended a run, or moved it. */
export interface Move {
  result?: TaskResult
  error?: Problem
}

/** One execution of a task: the record, and who waits for it. Everything that changes it is synchronous. */
export class Run {
  readonly id: string
  // version 7 sorts by time of creation, also within a millisecond
  readonly runId = uuid()
  readonly spec: TaskSpec
  readonly specDigest: string
  readonly cancelable: boolean
  readonly instance: string
  readonly replaces: string | undefined
  readonly createdAt: number
  /** Made with the run, before anything is awaited: a cancel can come at any time from here on. */
  readonly controller = new AbortController()
  tuning: Tuning | undefined
  tuningListener: ((tuning: Tuning) => void) | undefined
  expiresAt: number | undefined
  #state: TaskState = 'pending'
  #revision = 0
  #tick = 0
  #progress: Progress | undefined
  #operationId: string | undefined
  #result: TaskResult | undefined
  #error: Problem | undefined
  #startedAt: number | undefined
  #endedAt: number | undefined
  #retired = false
  readonly #waiters = new Set<() => void>()
  #wire: Task | undefined
  #etag: string | undefined
  #specText: string | undefined

  constructor (of: { id: string, spec: TaskSpec, specDigest: string, cancelable: boolean, instance: string, replaces: string | undefined, createdAt: number }) {
    this.id = of.id
    this.spec = of.spec
    this.specDigest = of.specDigest
    this.cancelable = of.cancelable
    this.instance = of.instance
    this.replaces = of.replaces
    this.createdAt = of.createdAt
  }

  get state (): TaskState { return this.#state }
  get revision (): number { return this.#revision }
  get tick (): number { return this.#tick }
  get error (): Problem | undefined { return this.#error }
  get finished (): boolean { return isFinished(this.#state) }
  get etag (): string {
    this.#etag ??= etagOf(this)
    return this.#etag
  }

  get startedAt (): number | undefined { return this.#startedAt }
  get endedAt (): number | undefined { return this.#endedAt }
  /** Whether the id is no longer this run's: it was forgotten, or used again. */
  get retired (): boolean { return this.#retired }

  /** Whether this command is the run's own, word for word. If not, it may still be the same: their digests tell, which take ten times as long. */
  hasSpec (spec: TaskSpec): boolean {
    this.#specText ??= JSON.stringify(this.spec)
    return JSON.stringify(spec) === this.#specText
  }

  /**
   * The one place where a state changes. There is no `await` between the check and the write, so no two ends of a
   * run can both win. Returns whether the move was legal and made.
   */
  move (to: TaskState, now: number, { result, error }: Move = {}): boolean {
    if (!canMove(this.#state, to)) return false
    this.#state = to
    this.#revision++
    if (to === 'running') this.#startedAt = now
    if (isFinished(to)) this.#endedAt = now
    if (result !== undefined) this.#result = result
    if (error !== undefined) this.#error = error
    this.#changed()
    this.#wake()
    return true
  }

  /**
   * The object is durable. A run that is canceling stays so, but its end then tells by `startedAt` that something is
   * left on the storage. It is shown from the next revision or tick on: what is shown never changes under one ETag.
   */
  accept (now: number, { operationId }: Accepted = {}): boolean {
    this.#operationId ??= operationId
    if (this.#state === 'canceling') this.#startedAt ??= now
    return this.#state === 'pending' && this.move('running', now)
  }

  /** The id is no longer this run's: whoever waits for it is to look again. */
  retire (): void {
    this.#retired = true
    this.#wake()
  }

  /** What GET shows from now on; nothing, when what was shown no longer holds. It wakes nobody: waiting is for transitions. */
  publish (progress: Progress | undefined): void {
    this.#progress = progress
    this.#tick++
    this.#changed()
  }

  /**
   * Resolves when `until` holds after a transition or the loss of the id, when the time is up, or when one of the
   * signals is aborted; at once if it holds already. Leaves neither a timer nor a listener behind.
   */
  async wait (until: (run: Run) => boolean, timeoutMs: number, signals: readonly AbortSignal[] = []): Promise<void> {
    if (until(this) || timeoutMs <= 0 || signals.some(({ aborted }) => aborted)) return
    await new Promise<void>(resolve => {
      const end = () => {
        clearTimeout(timer)
        this.#waiters.delete(wake)
        for (const signal of signals) signal.removeEventListener('abort', end)
        resolve()
      }
      const wake = () => { if (until(this)) end() }
      const timer = setTimeout(end, timeoutMs)
      this.#waiters.add(wake)
      for (const signal of signals) signal.addEventListener('abort', end)
    })
  }

  #changed (): void {
    this.#wire = undefined
    this.#etag = undefined
  }

  #wake (): void {
    for (const wake of [...this.#waiters]) wake()
  }

  /** The record as callers see it; fields that do not apply are absent. */
  wire (): Task {
    this.#wire ??= {
      id: this.id,
      runId: this.runId,
      kind: this.spec.kind,
      spec: this.spec,
      specDigest: this.specDigest,
      state: this.#state,
      // of what has finished, nothing is left to cancel
      cancelable: this.cancelable && !this.finished,
      ...(this.#progress !== undefined && { progress: this.#progress }),
      ...(this.#operationId !== undefined && { operationId: this.#operationId }),
      ...(this.#result !== undefined && { result: this.#result }),
      ...(this.#error !== undefined && { error: this.#error }),
      createdAt: new Date(this.createdAt).toISOString(),
      ...(this.#startedAt !== undefined && { startedAt: new Date(this.#startedAt).toISOString() }),
      ...(this.#endedAt !== undefined && { endedAt: new Date(this.#endedAt).toISOString() }),
      ...(this.expiresAt !== undefined && { expiresAt: new Date(this.expiresAt).toISOString() }),
      ...(this.replaces !== undefined && { replaces: this.replaces }),
      revision: this.#revision,
      tick: this.#tick,
      instance: this.instance
    }
    return this.#wire
  }
}
