import type { EventType } from '../api/event.ts'
import type { Task } from '../api/task.ts'
import { cursorOf } from './cursor.ts'
import { encode, idBytes } from './frame.ts'

/** What filters look at: the type of an event and, if it is about a task, which one. */
export interface Subject {
  readonly type: EventType
  readonly task?: { readonly id: string, readonly kind: string, readonly runId: string }
}

/** An event as it is remembered: encoded once, for everybody. */
export interface Entry extends Subject {
  readonly seq: number
  readonly frame: Buffer
  /** The same bytes without the id. */
  readonly bare: Buffer
  /** The bytes of all events before this one: the difference of two is what lies between them. */
  readonly bytesBefore: number
  /** Of a transition. */
  readonly revision?: number
  readonly tick?: number
  readonly finished?: boolean
}

/** What a step of reading came to: the frames, and how far it got. */
export interface Reading {
  frames: Buffer[]
  bytes: number
  seq: number
}

/**
 * The last events in order. It is the backlog of every subscriber at once: each one only remembers how far it has
 * read, so that an event costs the same for one subscriber and for ten thousand, and a stalled one costs nothing.
 */
export class Ring {
  readonly #instance: string
  readonly #capacity: number
  readonly #entries: Entry[] = []
  // the newest remembered transition of each run
  readonly #transitions = new Map<string, Entry>()
  #newest = 0
  #bytes = 0

  constructor (instance: string, capacity: number) {
    this.#instance = instance
    this.#capacity = capacity
  }

  get instance (): string { return this.#instance }
  get newest (): number { return this.#newest }
  get oldest (): number { return Math.max(1, this.#newest - this.#capacity + 1) }

  push (subject: Subject, data: object, transition?: Task): void {
    const seq = ++this.#newest
    const id = cursorOf(this.#instance, seq)
    const frame = encode(subject.type, data, id)
    const entry: Entry = {
      ...subject,
      seq,
      frame,
      bare: frame.subarray(idBytes(id)),
      bytesBefore: this.#bytes,
      ...(transition !== undefined && { revision: transition.revision, tick: transition.tick, finished: transition.endedAt !== undefined })
    }
    this.#bytes += frame.length
    const evicted = this.#entries[seq % this.#capacity]
    if (evicted?.task !== undefined && this.#transitions.get(evicted.task.runId) === evicted) this.#transitions.delete(evicted.task.runId)
    this.#entries[seq % this.#capacity] = entry
    if (transition !== undefined) this.#transitions.set(transition.runId, entry)
  }

  /** The newest transition of a run, if it is still remembered. */
  transitionOf (runId: string): Entry | undefined {
    return this.#transitions.get(runId)
  }

  /** The remembered transition that ended a task of this id, whichever run it was. */
  endOf (id: string): Entry | undefined {
    let end: Entry | undefined
    for (const entry of this.#transitions.values()) {
      if (entry.task?.id === id && entry.finished === true && entry.seq > (end?.seq ?? 0)) end = entry
    }
    return end
  }

  /** Whether everything behind this number is still remembered. */
  reaches (seq: number): boolean {
    return seq >= this.oldest - 1
  }

  /** Bytes of all events behind a number that the ring reaches. */
  bytesSince (seq: number): number {
    // the place behind the newest holds the oldest
    return seq < this.#newest ? this.#bytes - (this.#at(seq + 1)?.bytesBefore ?? this.#bytes) : 0
  }

  /** Reads on behind `seq`, at least one frame and then up to `maxBytes`, taking what `take` makes of each event. */
  read (seq: number, maxBytes: number, take: (entry: Entry) => Buffer | undefined): Reading {
    const reading: Reading = { frames: [], bytes: 0, seq }
    while (reading.seq < this.#newest) {
      const entry = this.#at(reading.seq + 1)
      const frame = entry === undefined ? undefined : take(entry)
      if (frame !== undefined) {
        if (reading.bytes > 0 && reading.bytes + frame.length > maxBytes) break
        reading.frames.push(frame)
        reading.bytes += frame.length
      }
      reading.seq++
    }
    return reading
  }

  #at (seq: number): Entry | undefined {
    return this.#entries[seq % this.#capacity]
  }
}
