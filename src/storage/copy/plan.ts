import { mapCommand } from '../../qemu/commands.ts'
import { parseMap } from '../../qemu/map.ts'
import { runOk } from '../../system/run.ts'
import { intersect, subtract, union, type Ranges } from '../ranges.ts'
import { sourceFds, sourceNodes, type Source } from './source.ts'
import { cutWindow, planChunk, type CopyWindow } from './windows.ts'

/** More extents than this in one look make the next one shorter: the list must fit into memory, however fragmented the image. */
const manyExtents = 20_000

/**
 * Deals out the windows of a copy, front to back. It asks for the block status of the source a chunk at a time, so a
 * sparse terabyte costs a few looks and a fragmented one no more memory than a chunk.
 */
export class Plan {
  readonly #source: Source
  readonly #size: number
  readonly #align: number
  readonly #done: Ranges
  #begun: Ranges
  #at = 0
  #chunkBytes = 1024 ** 3
  #copy: Ranges = []
  #zero: Ranges = []

  /** @param align Bytes that windows are aligned to: the target's cluster size, at least 1 MiB. */
  constructor (source: Source, size: number, align: number, done: Ranges, begun: Ranges) {
    this.#source = source
    this.#size = size
    this.#align = align
    this.#done = done
    this.#begun = begun
  }

  /** The next window, of about this many bytes of data; undefined when nothing is left to copy. */
  async next (windowBytes: number): Promise<CopyWindow | undefined> {
    while (this.#copy.length === 0 && this.#at < this.#size) await this.#look()
    const cut = cutWindow(this.#copy, this.#begun, windowBytes, this.#align)
    if (cut === undefined) return undefined
    this.#copy = cut.rest
    this.#begun = union(this.#begun, [[cut.window.start, cut.window.end]])
    return cut.window
  }

  /** What was found to be zero since this was last called: settled without having been copied. */
  takeZero (): Ranges {
    const zero = this.#zero
    this.#zero = []
    return zero
  }

  async #look (): Promise<void> {
    const start = this.#at
    const end = Math.min(start + this.#chunkBytes, this.#size)
    this.#at = end
    const todo = subtract([[start, end]], this.#done)
    if (todo.length === 0) return
    const { stdout } = await runOk(mapCommand(sourceNodes(this.#source, 3), start, end - start), { fds: sourceFds(this.#source) })
    const extents = parseMap(stdout)
    this.#chunkBytes = nextChunk(this.#chunkBytes, extents.length)
    const { copy, zero } = planChunk(todo, extents, intersect(this.#begun, todo), this.#align)
    this.#copy = copy
    this.#zero = union(this.#zero, zero)
  }
}

function nextChunk (bytes: number, extents: number): number {
  if (extents > manyExtents) return Math.max(bytes / 4, 64 * 1024 * 1024)
  return extents < manyExtents / 16 ? Math.min(bytes * 4, 2 ** 45) : bytes
}
