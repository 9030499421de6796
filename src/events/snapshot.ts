import type { Task } from '../api/task.ts'
import { batchBytes } from './channel.ts'
import type { Filter } from './filter.ts'
import { encode } from './frame.ts'
import type { Entry, Ring } from './ring.ts'

// of a hundred thousand tasks a filter may let none pass: looking at all of them must not take one turn of the loop
const tasksPerTurn = 500

/**
 * The retained tasks, read lazily at one subscriber's pace while they go on changing.
 *
 * A task is shown as it is at that moment, which may be after events that the subscriber reads from the ring later.
 * It notes those, so that no transition is told twice; what changed before it looked needs no note.
 */
export class Snapshot {
  readonly #ring: Ring
  readonly #filter: Filter
  readonly #tasks: Iterator<Task>
  readonly #since: number
  readonly #shown = new Map<string, number>()
  #done = false

  constructor (ring: Ring, filter: Filter, tasks: Iterable<Task>) {
    this.#ring = ring
    this.#filter = filter
    this.#tasks = tasks[Symbol.iterator]()
    this.#since = ring.newest
  }

  get done (): boolean { return this.#done }

  /** The next frames, without ids. */
  read (): Buffer[] {
    const frames: Buffer[] = []
    let bytes = 0
    for (let looked = 0; looked < tasksPerTurn && bytes < batchBytes; looked++) {
      const next = this.#tasks.next()
      if (next.done === true) {
        this.#done = true
        break
      }
      const frame = this.#show(next.value)
      if (frame === undefined) continue
      frames.push(frame)
      bytes += frame.length
    }
    return frames
  }

  /** Whether this transition, or a later one of the same run, has been shown. */
  shows ({ task, revision }: Entry): boolean {
    return task !== undefined && revision !== undefined && revision <= (this.#shown.get(task.runId) ?? -1)
  }

  #show (task: Task): Buffer | undefined {
    if (!this.#filter.passes({ type: 'task', task })) return undefined
    const transition = this.#ring.transitionOf(task.runId)
    if (transition === undefined) return encode('task', task)
    if (transition.seq > this.#since) this.#shown.set(task.runId, task.revision)
    return transition.revision === task.revision && transition.tick === task.tick ? transition.bare : encode('task', task)
  }
}
