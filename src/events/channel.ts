import type { Filter } from './filter.ts'
import type { Latest } from './latest.ts'
import type { Ring } from './ring.ts'

/** How far a subscriber has read: events, and numbers. */
export interface Position {
  readonly seq: number
  readonly tick: number
}

/** What there is to send from a position on, already joined, and where that leads. */
export interface Batch {
  readonly bytes: Buffer | undefined
  readonly to: Position
}

/** More is not joined at once: it is what a stalled subscriber holds in memory. */
export const batchBytes = 64 * 1024

/**
 * Everybody who wants to see the same. Subscribers that keep up are all at the same position, so an event is tested
 * and what gathered is joined once for all of them: per subscriber only the write is left.
 */
export class Channel {
  readonly filter: Filter
  readonly #ring: Ring
  readonly #latest: Latest
  /** How many streams read this channel. */
  readers = 0
  #last: { from: Position, head: Position, batch: Batch } | undefined

  constructor (filter: Filter, ring: Ring, latest: Latest) {
    this.filter = filter
    this.#ring = ring
    this.#latest = latest
  }

  /** Reads on from a position that the ring still reaches. */
  read (from: Position): Batch {
    const { newest } = this.#ring
    const { tick } = this.#latest
    const last = this.#last
    if (last !== undefined && last.from.seq === from.seq && last.from.tick === from.tick && last.head.seq === newest && last.head.tick === tick) return last.batch
    const batch = this.#join(from)
    // joined bytes that nobody else will ask for are not kept
    this.#last = this.readers > 1 ? { from, head: { seq: newest, tick }, batch } : undefined
    return batch
  }

  /** The bytes behind a position that are meant for this channel, counted no further than `limit`. */
  backlog (seq: number, limit: number): number {
    const upperBound = this.#ring.bytesSince(seq)
    if (upperBound <= limit) return upperBound
    return this.#ring.read(seq, Infinity, entry => this.filter.passes(entry) ? entry.frame : undefined).bytes
  }

  #join (from: Position): Batch {
    const { frames, seq } = this.#ring.read(from.seq, batchBytes, entry => this.filter.passes(entry) ? entry.frame : undefined)
    // numbers come after the transitions they belong to, so not before all of those are read
    const complete = seq === this.#ring.newest
    if (complete) frames.push(...this.#latest.read(from.tick, this.filter.passes))
    const to = { seq, tick: complete ? this.#latest.tick : from.tick }
    const [first, ...others] = frames
    return { bytes: others.length === 0 ? first : Buffer.concat(frames), to }
  }
}
