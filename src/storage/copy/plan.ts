import { mapCommand } from '../../qemu/commands.ts'
import { parseMap, type Extent } from '../../qemu/map.ts'
import { CommandError, runOk } from '../../system/run.ts'
import { intersect, subtract, total, union, type Ranges } from '../ranges.ts'
import { assertWhole, sourceFds, sourceNodes, type Source } from './source.ts'
import { cutWindow, planChunk, type CopyWindow } from './windows.ts'

/** More extents than this in one look make the next one shorter: the list must fit into memory, however fragmented the image. */
const manyExtents = 20_000
/** Characters that a look may print. A look that prints more is made again with a shorter chunk. */
const maxMapOutput = 32 * 1024 * 1024
/** Short enough for one look, even with the smallest clusters there are (512 bytes). */
const minChunkBytes = 64 * 1024 * 1024
const firstChunkBytes = 16 * 1024 ** 3
/** Less than this is not shared out: a process more costs more than it gains. */
const minShareBytes = 64 * 1024 * 1024

/** The block status of the first chunk of a source, asked for before there is a plan. */
export interface FirstLook {
  /** Nothing, if that did not work: the plan asks again. */
  readonly extents: Promise<Extent[] | undefined>
  /** Ends its program, if that is not done yet. Resolves when it is gone. */
  drop (): Promise<void>
}

/**
 * Begins the first look while record and target of a copy are still being made: the copy starts earlier by what it takes.
 * It must not be used of a source that was written a moment ago: a write in between might not show in its time of modification.
 */
export function lookAhead (source: Source): FirstLook {
  const dropped = new AbortController()
  const extents = blockStatus(source, 0, firstChunkBytes, dropped.signal).catch(() => undefined)
  return {
    extents,
    drop: async () => {
      dropped.abort()
      await extents
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
  #first: FirstLook['extents'] | undefined
  #begun: Ranges
  #at = 0
  #chunkBytes = firstChunkBytes
  #copy: Ranges = []
  #data: Ranges = []
  #zero: Ranges = []
  /** How many windows of this size the lanes still get before what is left is looked at again. */
  #round = { windows: 0, bytes: 0 }

  /**
   * @param align Bytes that windows are aligned to: the target's cluster size, at least 1 MiB.
   * @param lanes How many windows are copied at the same time.
   */
  constructor ({ source, size, align, lanes, done, begun, first, signal }: { source: Source, size: number, align: number, lanes: number, done: Ranges, begun: Ranges, first?: FirstLook['extents'] | undefined, signal: AbortSignal }) {
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
    const cut = cutWindow(this.#copy, { data: this.#data, begun: this.#begun, done: this.#done }, this.#share(windowBytes), this.#align)
    if (cut === undefined) return undefined
    this.#copy = cut.rest
    // zeros inside a window are settled with it
    this.#zero = subtract(this.#zero, [[cut.window.start, cut.window.end]])
    this.#begun = union(this.#begun, cut.window.writes)
    return cut.window
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
    const extents = todo.length === 0 ? [] : await this.#extents(start, end)
    if (extents === undefined) {
      this.#chunkBytes = Math.max(this.#chunkBytes / 16, minChunkBytes)
      return
    }
    this.#at = end
    this.#chunkBytes = nextChunk(this.#chunkBytes, extents.length)
    const { data, copy, zero } = planChunk(todo, extents, intersect(this.#begun, todo), this.#align)
    this.#data = data
    this.#copy = copy
    this.#zero = union(this.#zero, zero)
  }

  /** The block status of a part of the source; undefined if there is too much of it for one look. */
  async #extents (start: number, end: number): Promise<Extent[] | undefined> {
    // a target may be larger than its source
    if (start >= this.#source.virtualSize) return []
    const first = this.#first
    this.#first = undefined
    const ahead = start === 0 ? await first : undefined
    this.#signal.throwIfAborted()
    if (ahead !== undefined) return ahead
    try {
      return await blockStatus(this.#source, start, end, this.#signal)
    } catch (error) {
      // the limits of processor time and memory end it by these signals
      const tooMuch = error instanceof CommandError && (error.tooMuchOutput || error.signal === 'SIGXCPU' || error.signal === 'SIGABRT')
      if (tooMuch && end - start > minChunkBytes) return undefined
      throw error
    }
  }
}

async function blockStatus (source: Source, start: number, end: number, signal: AbortSignal): Promise<Extent[]> {
  const length = Math.min(end, source.virtualSize) - start
  const { stdout } = await runOk(mapCommand(sourceNodes(source, 3), start, length), {
    fds: sourceFds(source), maxOutput: maxMapOutput, signal
  })
  const extents = parseMap(stdout)
  assertWhole(source, extents)
  return extents
}

function nextChunk (bytes: number, extents: number): number {
  if (extents > manyExtents) return Math.max(bytes / 4, minChunkBytes)
  return extents < manyExtents / 16 ? Math.min(bytes * 4, 2 ** 45) : bytes
}
