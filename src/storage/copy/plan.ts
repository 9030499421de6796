import type { Extent } from '../../qemu/map.ts'
import { CommandError } from '../../system/run.ts'
import { intersect, subtract, total, union, type Ranges } from '../ranges.ts'
import { blockStatus, type BlockStatus } from './block-status.ts'
import { layersOf, maxOpenLayers } from './layers.ts'
import { syncSource, type Source } from './source.ts'
import { cutWindow, planChunk, type CopyWindow } from './windows.ts'

/** A chunk with fewer extents than this makes the next one longer: each costs a process. */
const fewExtents = 1250
/** A look at this much ends in time, even with the smallest clusters there are (512 bytes). */
const minChunkBytes = 64 * 1024 * 1024
const firstChunkBytes = 16 * 1024 ** 3
/** Less than this is not shared out: a process more costs more than it gains. */
const minShareBytes = 64 * 1024 * 1024

/** The block status of the first chunk of a source, asked for before there is a plan. */
export interface FirstLook {
  /** Nothing, if that did not work: the plan asks again. */
  readonly status: Promise<BlockStatus | undefined>
  /** Ends its program, if that is not done yet. Resolves when it is gone. */
  drop (): Promise<void>
}

/**
 * Begins the first look while record and target of a copy are still being made: the copy starts earlier by what it takes.
 * It must not be used of a source that was written a moment ago: a write in between might not show in its time of modification.
 */
export function lookAhead (source: Source): FirstLook {
  const dropped = new AbortController()
  const status = syncSource(source)
    .then(async () => await blockStatus(source, [0, firstChunkBytes], { signal: dropped.signal }))
    .catch(() => undefined)
  return {
    status,
    drop: async () => {
      dropped.abort()
      await status
    }
  }
}

/**
 * Deals out the windows of a copy, front to back. It asks for the block status of the source a chunk at a time, so a
 * sparse terabyte costs a few looks and a fragmented one no more memory than a chunk.
 */
export class Plan {
  readonly #source: Source
  readonly #size: number
  readonly #align: number
  readonly #lanes: number
  readonly #done: Ranges
  readonly #signal: AbortSignal
  #first: FirstLook['status'] | undefined
  #begun: Ranges
  #at = 0
  #chunkBytes = firstChunkBytes
  #copy: Ranges = []
  #data: Ranges = []
  #zero: Ranges = []
  /** The block status that the ranges above were made from. */
  #extents: readonly Extent[] = []
  /** How many windows of this size the lanes still get before what is left is looked at again. */
  #round = { windows: 0, bytes: 0 }

  /**
   * @param align Bytes that windows are aligned to: the target's cluster size, at least 1 MiB.
   * @param lanes How many windows are copied at the same time.
   */
  constructor ({ source, size, align, lanes, done, begun, first, signal }: { source: Source, size: number, align: number, lanes: number, done: Ranges, begun: Ranges, first?: FirstLook['status'] | undefined, signal: AbortSignal }) {
    this.#source = source
    this.#size = size
    this.#align = align
    this.#lanes = lanes
    this.#done = done
    // no window goes beyond the end of its source: there, a larger target is as it was, also when all of it is to be copied anew
    this.#begun = intersect(begun, [[0, Math.ceil(source.virtualSize / align) * align]])
    this.#first = first
    this.#signal = signal
  }

  /** The next window, of at most about this many bytes of data; undefined when nothing is left to copy. */
  async next (windowBytes: number): Promise<CopyWindow | undefined> {
    while (this.#copy.length === 0 && this.#at < this.#size) await this.#look()
    const cut = this.#cut(this.#share(windowBytes))
    if (cut === undefined) return undefined
    this.#copy = cut.rest
    // zeros inside a window are settled with it
    this.#zero = subtract(this.#zero, [[cut.window.start, cut.window.end]])
    this.#begun = union(this.#begun, cut.window.writes)
    return { ...cut.window, layers: layersOf(this.#source, this.#extents, [cut.window.start, cut.window.end]) }
  }

  /** Cuts off a window that few layers decide about: each layer makes its qemu-img slower to start. */
  #cut (windowBytes: number): ReturnType<typeof cutWindow> {
    for (let bytes = windowBytes; ; bytes /= 2) {
      const cut = cutWindow(this.#copy, { data: this.#data, begun: this.#begun, done: this.#done }, bytes, this.#align)
      if (cut === undefined || bytes <= this.#align) return cut
      const { start, end } = cut.window
      if (layersOf(this.#source, this.#extents, [start, end]).length <= maxOpenLayers) return cut
    }
  }

  /**
   * What was found to be zero, in front of the next window, since this was last called: settled without having been
   * copied. What lies further on is kept back: settled ahead, gaps between data would make the record long and, after a
   * crash, the windows short.
   */
  takeZero (): Ranges {
    const until = this.#copy[0]?.[0] ?? this.#at
    const taken = intersect(this.#zero, [[0, until]])
    this.#zero = subtract(this.#zero, taken)
    return taken
  }

  /** Near the end, what is left is dealt out in even rounds: otherwise all lanes but one would wait for a last, lonely window. */
  #share (windowBytes: number): number {
    if (this.#at < this.#size) return windowBytes
    if (this.#round.windows === 0) {
      const left = total(this.#copy)
      const windows = Math.ceil(left / windowBytes / this.#lanes) * this.#lanes
      this.#round = { windows: this.#lanes, bytes: Math.max(minShareBytes, Math.ceil(left / windows / this.#align) * this.#align) }
    }
    this.#round.windows--
    return Math.min(windowBytes, this.#round.bytes)
  }

  async #look (): Promise<void> {
    const start = this.#at
    const end = Math.min(start + this.#chunkBytes, this.#size)
    const todo = subtract([[start, end]], this.#done)
    const status = todo.length === 0 ? { extents: [], end } : await this.#status(start, end)
    if (status === undefined) {
      this.#chunkBytes = Math.max(this.#chunkBytes / 16, minChunkBytes)
      return
    }
    // beyond the end of its source, a larger target is zero
    const reached = status.end >= this.#source.virtualSize ? end : this.#borderBefore(status.end, start)
    this.#at = reached
    if (status.extents.length < fewExtents) this.#chunkBytes = Math.min(this.#chunkBytes * 4, 2 ** 45)
    const left = intersect(todo, [[start, reached]])
    const { data, copy, zero } = planChunk(left, status.extents, intersect(this.#begun, left), this.#align)
    this.#extents = status.extents
    this.#data = data
    this.#copy = copy
    this.#zero = union(this.#zero, zero)
  }

  /** Where windows can end, at most at `at`, but never back at the start: what is known of less than that is of no use. */
  #borderBefore (at: number, start: number): number {
    const border = Math.floor(at / this.#align) * this.#align
    if (border <= start) throw new Error(`no window fits into the block status up to byte ${at}`)
    return border
  }

  /** The block status of a part of the source; undefined if looking at so much takes too much time or memory. */
  async #status (start: number, end: number): Promise<BlockStatus | undefined> {
    // a target may be larger than its source
    if (start >= this.#source.virtualSize) return { extents: [], end }
    const first = this.#first
    this.#first = undefined
    const ahead = start === 0 ? await first : undefined
    this.#signal.throwIfAborted()
    if (ahead !== undefined) return ahead
    try {
      return await blockStatus(this.#source, [start, end], { signal: this.#signal })
    } catch (error) {
      // the limits of processor time and memory end it by these signals
      const tooMuch = error instanceof CommandError && (error.signal === 'SIGXCPU' || error.signal === 'SIGABRT')
      if (tooMuch && end - start > minChunkBytes) return undefined
      throw error
    }
  }
}
