import type { Progress } from '../api/task.ts'

/** What a kind of task uses while it runs: names of images or volumes. Any number may share, one may hold alone. */
export interface Uses {
  shared: readonly string[]
  exclusive: readonly string[]
}

/** The part of a logger that a task body needs. */
export interface TaskLog {
  info (fields: object, message: string): void
  warn (fields: object, message: string): void
  error (fields: object, message: string): void
}

/** Changes to a running task (PATCH). */
export interface Tuning {
  /** Bytes per second; null lifts the limit. */
  bandwidth: number | null
}

/** What is known of the object as soon as it is durable. */
export interface Accepted {
  /** Of a Gluster operation: the id that Gluster gave it. */
  operationId?: string
}

/** What a running task body is given. */
export interface TaskContext {
  id: string
  /** The caller has used the id of a finished task again, on purpose: what that one did does not count. */
  reused: boolean
  /** Aborted by a cancel, with a `Canceled`, or by the deadline of accepting. A body that stops because of it throws `signal.reason`. */
  signal: AbortSignal
  /** A step of accepting is done: the storage answers, and the deadline starts again. */
  accepting (): void
  /** The object is durable: the task is `running` from here on. */
  accepted (of?: Accepted): void
  progress (progress: Progress): void
  /** Called with every later change, and at once with one that came before. */
  onTuning (listener: (tuning: Tuning) => void): void
  log: TaskLog
}

/**
 * A kind of task. An AppError thrown before `accepted()` refuses the task (`rejected`), unless it is marked `changed`;
 * any other error fails it.
 */
export interface KindDefinition<Spec, Result> {
  cancelable: boolean
  /** Whether PATCH may change the bandwidth. */
  tunable: boolean
  /** Kinds that name a queue share its limit: the others wait, in order, as `pending`. */
  queue?: string
  /** Milliseconds that accepting may take, where that is more than usual. */
  acceptDeadlineMs?: number
  /** Throws if what it works on does not answer at this moment. Asked while accepting takes long, to tell why. */
  answers? (spec: Spec): Promise<void>
  /** Throws what is wrong with the request itself, before anything is looked up. */
  check (spec: Spec): void
  uses (spec: Spec): Uses
  run (spec: Spec, context: TaskContext): Promise<Result>
  /** What accepting would answer, without changing anything; throws the refusal. */
  preview? (spec: Spec): Promise<object>
}
