import { setMaxListeners } from 'node:events'
import type { Kind, TaskSpec, TaskResult } from '../api/kinds.ts'
import type { Task } from '../api/task.ts'
import { AppError, Canceled } from '../errors.ts'
import { digest } from './digest.ts'
import { namesRevision, namesRun, type TagCondition } from './etag.ts'
import { execute, type Waiter } from './execution.ts'
import type { KindDefinition, TaskLog, Tuning } from './kind.ts'
import { Queue } from './queue.ts'
import { Retention } from './retention.ts'
import { Run } from './run.ts'
import { Usage } from './usage.ts'

/** Told of everything that happens, in order. */
export interface TaskObserver {
  transition (task: Task): void
  progress (task: Task): void
  forgotten (task: Task): void
}

/** The definition of every kind. Kinds are looked up by the spec's own `kind`, which is what makes the types fit. */
export type KindTable = { readonly [K in Kind]: KindDefinition<Extract<TaskSpec, { kind: K }>, TaskResult> }

export interface RegistryOptions {
  kinds: KindTable
  instance: string
  observer: TaskObserver
  log: TaskLog
  retentionMs: number
  maxActive: number
  maxRetained: number
  acceptDeadlineMs: number
  /** How many tasks of a queue run at a time. */
  queues: Readonly<Record<string, number>>
}

/** The preconditions of a PUT. */
export interface ClaimConditions {
  ifMatch?: TagCondition | undefined
  ifNoneMatch?: TagCondition | undefined
  /** The value of the request header Agent-Instance. */
  instance?: string | undefined
}

/** How a claim was answered: a new run, one that is under way, or the stored result of one that has finished. */
export interface Claim {
  how: 'created' | 'joined' | 'stored'
  run: Run
}

/** Every task this agent knows, for as long as it knows it. Nothing here survives the process, by design. */
export class TaskRegistry {
  readonly #options: RegistryOptions
  // insertion order is the order of (createdAt, runId): a reused id is inserted anew
  readonly #runs = new Map<string, Run>()
  readonly #usage = new Usage<Run>()
  readonly #queues: ReadonlyMap<string, Queue<Waiter>>
  readonly #retention: Retention
  readonly #stopping = new AbortController()
  #active = 0
  #lastCreatedAt = 0

  constructor (options: RegistryOptions) {
    this.#options = options
    this.#queues = new Map(Object.entries(options.queues).map(([name, limit]) => [name, new Queue<Waiter>(limit)]))
    this.#retention = new Retention(options.retentionMs, run => { this.#remove(run) })
    // a thousand long polls are a thousand listeners, and no leak
    setMaxListeners(0, this.#stopping.signal)
  }

  get instance (): string { return this.#options.instance }
  /** Aborted when the agent stops: whoever waits for a task is then answered with its current state. */
  get stopping (): AbortSignal { return this.#stopping.signal }
  get active (): number { return this.#active }

  /** The retained runs, oldest first. */
  runs (): Iterable<Run> { return this.#runs.values() }

  find (id: string): Run | undefined { return this.#runs.get(id) }

  /**
   * Creates a task or claims the one that has this id. Everything from the look-up to the insertion happens in one
   * turn of the event loop: with an `await` in between, two callers could both find nothing and both start.
   */
  claim (id: string, spec: TaskSpec, conditions: ClaimConditions = {}): Claim {
    const definition = this.#definition(spec)
    definition.check(spec)
    const existing = this.#runs.get(id)
    const specDigest = existing?.hasSpec(spec) === true ? existing.specDigest : digest(spec)
    const reused = this.#check(existing, conditions)
    if (existing !== undefined && existing.state !== 'rejected' && reused === undefined) {
      if (existing.specDigest !== specDigest) {
        throw conflict('task-id-conflict', `Task ${id} is another command (${existing.spec.kind}, ${existing.state}). Choose another id${existing.finished ? `, or reuse this one with If-Match: ${existing.etag}` : ''}.`, existing)
      }
      return { how: existing.finished ? 'stored' : 'joined', run: existing }
    }
    const evicted = this.#makeRoom(definition, spec, existing)
    if (evicted !== undefined) this.forget(evicted)
    if (existing !== undefined) this.#remove(existing)
    return { how: 'created', run: this.#insert(id, spec, specDigest, definition, reused) }
  }

  /** What a PUT would do, without doing it: the same checks in the same order, then the kind's own. */
  async preview (id: string, spec: TaskSpec, conditions: ClaimConditions = {}): Promise<{ how: Claim['how'], run?: Run, preview?: object }> {
    this.#definition(spec).check(spec)
    const existing = this.#runs.get(id)
    const reused = this.#check(existing, conditions)
    if (existing !== undefined && existing.state !== 'rejected' && reused === undefined) return this.claim(id, spec, conditions)
    const definition = this.#definition(spec)
    this.#makeRoom(definition, spec, existing)
    return { how: 'created', preview: await definition.preview?.(spec) ?? {} }
  }

  /** Asks a task to stop. Finished: nothing happens. */
  cancel (run: Run): void {
    if (run.finished || run.state === 'canceling') return
    if (!run.cancelable) throw conflict('task-not-cancelable', `Task ${run.id} (${run.spec.kind}) cannot be canceled: it ends by itself.`, run)
    this.#moved(run, run.move('canceling', Date.now()))
    run.controller.abort(new Canceled(run.id))
  }

  /** Forgets a finished task before its time. */
  forget (run: Run): void {
    this.#remove(run)
    this.#options.observer.forgotten(run.wire())
  }

  /** Changes a running task. Neither its spec nor its digest changes. */
  tune (run: Run, tuning: Tuning): void {
    if (run.finished) throw conflict('task-finished', `Task ${run.id} has ${run.state}: nothing is left to change.`, run)
    if (!this.#definition(run.spec).tunable) throw conflict('task-not-tunable', `A ${run.spec.kind} has no bandwidth to change.`, run)
    run.tuning = tuning
    run.tuningListener?.(tuning)
  }

  /** Lets everybody go who waits. Running bodies are left alone: what they work on survives them. */
  stop (): void {
    this.#stopping.abort()
    this.#retention.stop()
  }

  #definition (spec: TaskSpec): KindDefinition<TaskSpec, TaskResult> {
    // the table's type ties each kind to its own spec; a look-up by a union cannot express that
    return this.#options.kinds[spec.kind] as KindDefinition<TaskSpec, TaskResult>
  }

  /** Throws what stands against the claim; returns the tag of the finished run whose id may be used again. */
  #check (existing: Run | undefined, { ifMatch, ifNoneMatch, instance }: ClaimConditions): string | undefined {
    if (instance !== undefined && instance !== this.instance) {
      throw new AppError('instance-changed', `The agent was restarted: this is instance ${this.instance}, not ${instance}. Tasks of the old one are forgotten; look at the images before you send the command again.`, { members: existing === undefined ? {} : { task: existing.wire() } })
    }
    if (ifNoneMatch !== undefined && existing !== undefined && existing.state !== 'rejected' && (ifNoneMatch === '*' || ifNoneMatch.includes(existing.etag))) {
      throw conflict('precondition-failed', `Task ${existing.id} exists (${existing.state}).`, existing)
    }
    if (ifMatch === undefined) return undefined
    if (existing === undefined) throw new AppError('precondition-failed', 'If-Match names a task that is not there: it has expired, or this instance of the agent never had it.')
    if (!existing.finished) throw conflict('precondition-failed', `Task ${existing.id} is ${existing.state}: only the id of a finished task can be used again.`, existing)
    if (!namesRevision(ifMatch, existing)) throw conflict('precondition-failed', `Task ${existing.id} is another run than If-Match names.`, existing)
    return existing.etag
  }

  /** Throws what stands against one more run; returns the `rejected` record that has to go for it, if any has to. */
  #makeRoom (definition: KindDefinition<TaskSpec, TaskResult>, spec: TaskSpec, existing: Run | undefined): Run | undefined {
    const busy = this.#usage.conflict(definition.uses(spec))
    if (busy !== undefined) {
      const { holder, name } = busy
      throw new AppError('resource-busy', `${name} is in use by task ${holder.id} (${holder.spec.kind}, ${holder.state}).`, { members: { holder: holder.id, retryAfter: retryAfter(holder) } })
    }
    if (this.stopping.aborted) throw new AppError('agent-stopping', 'The agent is stopping and begins nothing new. Send the command again when it is back.', { members: { retryAfter: 5 } })
    if (this.#active >= this.#options.maxActive) throw new AppError('agent-busy', `The agent has ${this.#active} active tasks, as many as it may have.`, { members: { retryAfter: 5 } })
    // a run that takes over the record of another needs no room
    if (existing !== undefined || this.#runs.size < this.#options.maxRetained) return undefined
    for (const run of this.#runs.values()) if (run.state === 'rejected') return run
    throw new AppError('agent-busy', 'The agent retains as many finished tasks as it may. They expire by themselves.', { members: { retryAfter: 5 } })
  }

  #remove (run: Run): void {
    if (this.#runs.get(run.id) === run) this.#runs.delete(run.id)
    this.#retention.remove(run)
    run.retire()
  }

  #insert (id: string, spec: TaskSpec, specDigest: string, definition: KindDefinition<TaskSpec, TaskResult>, replaces: string | undefined): Run {
    // the wall clock may be set back; the order of the list must not be
    this.#lastCreatedAt = Math.max(this.#lastCreatedAt, Date.now())
    const run = new Run({ id, spec, specDigest, cancelable: definition.cancelable, instance: this.instance, replaces, createdAt: this.#lastCreatedAt })
    const uses = definition.uses(spec)
    this.#usage.take(uses, run)
    this.#runs.set(id, run)
    this.#active++
    this.#moved(run, true)
    const { log, acceptDeadlineMs, observer } = this.#options
    execute({
      run,
      definition,
      queue: definition.queue === undefined ? undefined : this.#queues.get(definition.queue),
      acceptDeadlineMs,
      log,
      moved: made => { this.#moved(run, made) },
      progressed: published => { observer.progress(published.wire()) }
    }).then(
      () => { this.#usage.release(uses, run) },
      // `execute` answers for every outcome of the body: what gets here is a bug, and must not take the agent down
      error => { log.error({ err: error, task: id }, 'task could not be executed') }
    )
    return run
  }

  #moved (run: Run, made: boolean): void {
    if (!made) return
    if (run.finished) {
      this.#active--
      this.#retention.add(run)
    }
    const task = run.wire()
    this.#options.observer.transition(task)
    const { id, kind, state, runId } = task
    const ended = run.endedAt === undefined ? {} : { durationMs: run.endedAt - run.createdAt, bytesDone: task.progress?.bytesDone, result: task.result, error: run.error }
    this.#options.log.info({ task: id, runId, kind, state, ...objectOf(run.spec), ...ended }, `task ${id} ${state}`)
  }
}

/** Seconds after which a look at the task is worth while: a tenth of what is left, between 1 and 30. */
export function retryAfter (run: Run): number {
  const eta = run.wire().progress?.etaSeconds ?? 10
  return Math.round(Math.min(30, Math.max(1, eta / 10)))
}

/** Refuses when a condition names another run than the one the id has now, so a late cancel never stops the next run. */
export function checkRun (run: Run, runId: string | undefined, ifMatch: TagCondition | undefined): void {
  if ((runId !== undefined && runId !== run.runId) || (ifMatch !== undefined && !namesRun(ifMatch, run))) {
    throw conflict('precondition-failed', `The id ${run.id} now belongs to run ${run.runId}, which is another one than you name.`, run)
  }
}

function conflict (code: 'task-id-conflict' | 'task-not-cancelable' | 'task-not-tunable' | 'task-finished' | 'precondition-failed', detail: string, run: Run): AppError {
  return new AppError(code, detail, { members: { task: run.wire() } })
}

function objectOf (spec: TaskSpec): object {
  if ('target' in spec) return { image: imageOf(spec.target), source: imageOf(spec.source) }
  // an image's volume is another thing than one of Gluster
  return 'image' in spec ? { image: imageOf(spec) } : { volume: spec.volume }
}

function imageOf ({ domain, image, volume }: { domain: string, image: string, volume?: string }): string {
  return volume === undefined ? `${domain}/${image}` : `${domain}/${image}/${volume}`
}
