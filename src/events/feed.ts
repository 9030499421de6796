import type { ServerResponse } from 'node:http'
import type { EventType, ImageChange, TaskProgress } from '../api/event.ts'
import type { Operation } from '../api/operation.ts'
import type { Task } from '../api/task.ts'
import { cursorOf, endCursor, locate, type Start } from './cursor.ts'
import type { Wanted } from './filter.ts'
import { encode, encodeRetry } from './frame.ts'
import { Latest } from './latest.ts'
import { Ring } from './ring.ts'
import { encodeReset, type DropReason, type Headers } from './stream.ts'
import { answer, retryMs, Streams, type LookForUnanswered, type StreamLog } from './streams.ts'

export interface FeedOptions {
  instance: string
  /**
   * The retained tasks, each as it is at the moment it is yielded. Read lazily while they go on changing: what is added
   * or changed meanwhile may or may not be seen, what is there all the time must be. The filter is a hint.
   */
  snapshot: (wanted: Wanted) => Iterable<Task>
  /** How many events are remembered. Default 4096. */
  history?: number
  /** Default 15,000. */
  heartbeatMs?: number
  /** Default 10,000. */
  maxStreams?: number
  /** Streams from one network address; all clients of a proxy that does not tell whom it speaks for share one. Default `maxStreams`. */
  maxStreamsPerAddress?: number
  /** A subscriber with more waiting for it is cut off. Default 1 MiB. */
  backlogBytes?: number
  /** A subscriber that takes nothing for so long is cut off. Default 30,000. */
  drainMs?: number
  /**
   * Tells of a socket how often in a row the kernel has sent again what its peer leaves unanswered; asked at every
   * heartbeat. With it, a peer that has vanished without a word counts as one that takes nothing.
   */
  lookForUnanswered?: LookForUnanswered
  /** How long `close` waits for subscribers to take what is left. Default 500. */
  closeMs?: number
  log?: StreamLog
}

/** Where and how a subscriber listens. */
export interface Listener {
  response: ServerResponse
  /** Sent with the stream's own. */
  headers: Headers
  address: string | undefined
  start: Start
}

/** Tells everybody what happens, in order; who comes back is told what he missed, or that he missed something. */
export class Feed {
  readonly #options: FeedOptions
  readonly #ring: Ring
  readonly #latest = new Latest()
  readonly #streams: Streams

  constructor (options: FeedOptions) {
    const { instance, history = 4096, heartbeatMs = 15_000, maxStreams = 10_000, backlogBytes = 1024 * 1024, drainMs = 30_000, closeMs = 500, log } = options
    this.#options = options
    this.#ring = new Ring(instance, history)
    this.#streams = new Streams({
      ring: this.#ring,
      latest: this.#latest,
      heartbeatMs,
      drainMs,
      backlogBytes,
      closeMs,
      maxStreams,
      lookForUnanswered: options.lookForUnanswered,
      maxStreamsPerAddress: options.maxStreamsPerAddress ?? maxStreams,
      log
    })
  }

  get instance (): string { return this.#ring.instance }
  /** The cursor of now. Taken in the same turn of the loop as a list, it is where that list continues. */
  get lastEventId (): string { return cursorOf(this.#ring.instance, this.#ring.newest) }
  /** How many are listening. */
  get subscribers (): number { return this.#streams.size }
  /** How many streams were ever opened. */
  get opened (): number { return this.#streams.opened }
  /** How many streams were refused because of a limit. */
  get refused (): number { return this.#streams.refused }
  /** How many streams were cut off, and why. */
  get dropped (): Readonly<Record<DropReason, number>> { return this.#streams.dropped }
  /** How many events were ever told, numbers not counted. */
  get events (): number { return this.#ring.newest }

  /** A task went from one state to another. */
  transition (task: Task): void {
    this.#latest.delete(task.runId)
    this.#tell('task', task, task, task)
  }

  /** The numbers of a task changed. */
  progress ({ instance, id, kind, runId, revision, tick, progress }: Task): void {
    if (progress === undefined) return
    const data: TaskProgress = { instance, id, runId, revision, tick, progress }
    this.#latest.set(runId, { type: 'progress', task: { id, kind, runId } }, encode('progress', data))
    this.#streams.wakeAll()
  }

  /** A finished task was forgotten before its time. */
  forgotten (task: Pick<Task, 'id' | 'kind' | 'runId'>): void {
    this.#latest.delete(task.runId)
    this.#tell('forgotten', { id: task.id, runId: task.runId }, task)
  }

  /** The agent changed an image, or found it changed. */
  image (change: ImageChange): void {
    this.#tell('image', change)
  }

  /** A Gluster operation changed its state. */
  operation (operation: Operation): void {
    this.#latest.delete(operation.operationId)
    this.#tell('operation', operation)
  }

  /** The numbers of a Gluster operation changed, but not its state. */
  operationProgress (operation: Operation): void {
    this.#latest.set(operation.operationId, { type: 'operationProgress' }, encode('operationProgress', operation))
    this.#streams.wakeAll()
  }

  /** Tells a subscriber to come again in a moment, because he or others like him begin streams too often. */
  refuse ({ response, headers }: Omit<Listener, 'start'>, maximum: number): void {
    this.#streams.refuse(response, headers, { limit: 'requestsPerSecond', maximum, retryMs: retryMs() })
  }

  /** Finds where a subscriber that comes with this cursor goes on. */
  locate (cursor: string | undefined): Start {
    const { instance, oldest, newest } = this.#ring
    return locate(cursor, { instance, oldest, newest })
  }

  /** Tells a subscriber everything that it wants to see. */
  listen ({ start, ...listener }: Listener, wanted: Wanted): void {
    const withTasks = wanted.types?.includes('task') ?? true
    this.#streams.open({
      ...listener,
      ...opening(start),
      wanted,
      tasks: () => withTasks ? this.#options.snapshot(wanted) : []
    })
  }

  /** Tells a subscriber about one run of a task until it has ended. `find` gives the task that has an id now. */
  follow ({ start, ...listener }: Listener, { id, runId }: Task, find: (id: string) => Task | undefined): void {
    const current = () => {
      const task = find(id)
      return task?.runId === runId ? task : undefined
    }
    this.#streams.open({
      ...listener,
      ...opening(start),
      wanted: { only: { id, runId, until: this.#ring.newest } },
      tasks: () => [current()].filter(task => task !== undefined),
      isOver: () => {
        const task = current()
        return task === undefined || task.endedAt !== undefined
      }
    })
  }

  /** Whether a subscriber that starts there has seen this run end. */
  hasSeenEnd (start: Start, { runId, endedAt }: Task): boolean {
    // an end that is not remembered is older than every place in the ring
    return endedAt !== undefined && start.at === 'sequence' && (this.#ring.transitionOf(runId)?.seq ?? 0) <= start.seq
  }

  /** Whether a subscriber that starts there needs no telling that a task is forgotten: it has seen its end, or was told. */
  isDoneWith (start: Start, id: string): boolean {
    if (start.at !== 'sequence') return start.at === 'end'
    const end = this.#ring.endOf(id)
    return end !== undefined && end.seq <= start.seq
  }

  /** Tells a subscriber that the task it followed is forgotten, with a cursor that says that it has been told. */
  tellForgotten ({ start, response, headers }: Listener, id: string): void {
    const reason = start.at === 'reset' ? start.reason : 'forgotten'
    answer(response, headers, [
      encodeRetry(2000),
      encodeReset(reason),
      encode('forgotten', { id }, endCursor(this.#ring.instance))
    ])
  }

  /** Ends every stream with `bye`. Resolves when all connections are gone, after `closeMs` at the latest. */
  async close (): Promise<void> {
    await this.#streams.close()
  }

  #tell (type: EventType, data: object, task?: Pick<Task, 'id' | 'kind' | 'runId'>, transition?: Task): void {
    // only what filters look at: the ring must not keep tasks
    const subject = task === undefined ? { type } : { type, task: { id: task.id, kind: task.kind, runId: task.runId } }
    this.#ring.push(subject, data, transition)
    this.#streams.wakeAll()
  }
}

/** The frames that a stream begins with, and where it reads on. */
function opening (start: Start): { greeting: Buffer[], after: number | undefined } {
  if (start.at === 'sequence') return { greeting: [], after: start.seq }
  if (start.at === 'beginning') return { greeting: [], after: undefined }
  return { greeting: [encodeReset(start.at === 'reset' ? start.reason : 'malformed')], after: undefined }
}
