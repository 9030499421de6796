import type { Extent } from '../../qemu/map.ts'
import { intersect, subtract, total, union, type Ranges } from '../ranges.ts'
import { StatusReader, type BlockStatus } from './block-status.ts'
import { layersOf, maxOpenLayers } from './layers.ts'
import type { Source } from './source.ts'
import { cutWindow, planChunk, type CopyWindow } from './windows.ts'

/** Less than this is not shared out: a process more costs more than it gains. */
const minShareBytes = 64 * 1024 * 1024

interface PlanOptions {
  source: Source
  size: number
  align: number
  lanes: number
  done: Ranges
  begun: Ranges
  known?: BlockStatus | undefined
  signal: AbortSignal
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
  readonly #reader: StatusReader
  #begun: Ranges
  #at = 0
  #copy: Ranges = []
  #data: Ranges = []
  #zero: Ranges = []
  /** The block status that the ranges above were made from. */
  #extents: readonly Extent[] = []
  /** How many windows of this size the lanes still get before what is left is looked at again. */
  #round = { windows: 0, bytes: 0 }

  /**
   * @param options.align Bytes that windows are aligned to: the target's cluster size, at least 1 MiB.
   * @param options.lanes How many windows are copied at the same time.
   * @param options.known The block status of the front of the source, if it was read before and still holds.
   */
  constructor ({ source, size, align, lanes, done, begun, known, signal }: PlanOptions) {
    this.#source = source
    this.#size = size
    this.#align = align
    this.#lanes = lanes
    this.#done = done
    // no window goes beyond the end of its source: there, a larger target is as it was, also when all of it is to be copied anew
    this.#begun = intersect(begun, [[0, Math.ceil(source.virtualSize / align) * align]])
    this.#reader = new StatusReader(source, signal, known)
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
    // what is done needs no look
    const [next] = subtract([[this.#at, this.#size]], this.#done)
    if (next === undefined) {
      this.#at = this.#size
      return
    }
    const start = Math.floor(next[0] / this.#align) * this.#align
    const status = await this.#reader.read(start, this.#size)
    this.#at = status.end >= this.#source.virtualSize ? this.#size : this.#borderBefore(status.end, start)
    const todo = subtract([[start, this.#at]], this.#done)
    const { data, copy, zero } = planChunk(todo, status.extents, intersect(this.#begun, todo), this.#align)
    this.#extents = status.extents
    this.#data = data
    this.#copy = copy
    this.#zero = union(this.#zero, zero)
  }

  /** Where windows can end, at most at `at`. A look always reaches over several. */
  #borderBefore (at: number, start: number): number {
    const border = Math.floor(at / this.#align) * this.#align
    if (border <= start) throw new Error(`no window fits into the block status from byte ${start} to ${at}`)
    return border
  }
}
