import type { Extent } from '../../qemu/map.ts'
import { intersect, normalize, subtract, total, union, type Ranges } from '../ranges.ts'
import type { Layers } from './layers.ts'

/** A piece of the disk that one qemu-img run copies. */
export interface CopyWindow extends WindowRanges {
  /** The layers of the source that decide what it reads as. */
  layers: Layers
}

/** Where a window lies. */
export interface WindowRanges {
  start: number
  /** At most the virtual size; not necessarily aligned there. */
  end: number
  /** How much of it is to be copied; the rest is short gaps of zeros. */
  copyBytes: number
  /** How much of it the source has as data: that much is read, and moved. */
  dataBytes: number
  /** Nothing of it was ever begun: the target is known to be zero there. */
  fresh: boolean
  /** What of it may be written to, which is what the record names before it begins: all but the long gaps of zeros. */
  writes: Ranges
}

/**
 * A gap of zeros this long stays out of what the record names. qemu-img skips it, cheaper than a new process, as long as
 * nothing of the window was begun before; otherwise it ends the window: to zero it all would take longer than to copy.
 */
const longGapBytes = 64 * 1024 * 1024
/** So many pieces of a window, and the record stays small. */
const maxPieces = 64

/**
 * What is left to do in a part of the disk: the ranges to copy, and the ranges that read as zeros in the source and
 * were never touched in the target, which are done as they are.
 */
export function planChunk (todo: Ranges, extents: ReadonlyArray<Pick<Extent, 'start' | 'length' | 'zero'>>, begun: Ranges, align: number): { data: Ranges, copy: Ranges, zero: Ranges } {
  const data = normalize(extents.filter(({ zero }) => !zero).map(({ start, length }) => [start, start + length]))
  // a cluster is written as a whole, so a window must not end inside one
  const aligned = normalize(data.map(([start, end]) => [Math.floor(start / align) * align, Math.ceil(end / align) * align]))
  const copy = intersect(todo, union(aligned, begun))
  return { data, copy, zero: subtract(todo, copy) }
}

/**
 * Cuts the next window off the ranges to copy: about `windowBytes` of them, from the front. It never reaches over what is
 * done: with several lanes, a crash leaves done and half-done windows alternating, and a gap inside a window is copied.
 */
export function cutWindow (copy: Ranges, { data, begun, done }: { data: Ranges, begun: Ranges, done: Ranges }, windowBytes: number, align: number, longGap = longGapBytes): { window: WindowRanges, rest: Ranges } | undefined {
  const [first] = copy
  if (first === undefined) return undefined
  const start = first[0]
  let end = start
  let copyBytes = 0
  let piece = start
  const writes: Array<[number, number]> = []
  for (const [from, to] of copy) {
    if (end !== start) {
      const isLong = from - end >= longGap
      if (total(intersect([[end, from]], done)) > 0) break
      if (isLong && writes.length + 1 === maxPieces) break
      if ((isLong || writes.length > 0) && total(intersect([[start, to]], begun)) > 0) break
      if (isLong) {
        writes.push([piece, end])
        piece = from
      }
    }
    const room = Math.max(align, Math.floor((windowBytes - copyBytes) / align) * align)
    // cut at a multiple of `align` of the disk, wherever the range starts
    const cut = Math.min(to, Math.floor((from + room) / align) * align)
    copyBytes += cut - from
    end = cut
    if (copyBytes >= windowBytes || cut < to) break
  }
  writes.push([piece, end])
  const within = (ranges: Ranges) => total(intersect([[start, end]], ranges))
  return { window: { start, end, copyBytes, dataBytes: within(data), fresh: within(begun) === 0, writes }, rest: subtract(copy, [[start, end]]) }
}
