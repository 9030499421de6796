import type { Extent } from '../../qemu/map.ts'
import { intersect, normalize, overlapping, subtract, total, type Ranges } from '../ranges.ts'
import { StatusReader, type BlockStatus } from './block-status.ts'
import { maxOpenLayers } from './layers.ts'
import { clusterBytesOf, type PartShape } from './part.ts'
import { syncSource, type Source } from './source.ts'

/** File systems hand out space in blocks of this size, or larger ones. */
const blockBytes = 4096

type Shape = Pick<PartShape, 'format' | 'allocation' | 'virtualSize'> & { clusterSize?: number | undefined }
type Geometry = Pick<PartShape, 'format' | 'allocation' | 'virtualSize'> & { clusterBytes: number }

/** What a copy has to move, and what its target takes up. */
export interface Survey {
  /** Data that is read and written. */
  bytesToMove: number
  /** What the complete target takes up on its file system. */
  bytesNeeded: number
}

/** What was found out about a copy before it begins. */
export interface Work extends Survey {
  /** The block status of the front of the source. */
  known?: BlockStatus | undefined
  /** The caller knows better how much space it takes: zeros that are written out look like data. */
  ignoreSpace?: boolean
}

/** A part of the source that was not looked at: how much data it has at most. */
export interface Unseen {
  virtualBytes: number
  dataBytes: number
}

/** A fragmented source takes long to look at: its copy begins meanwhile, and what was not seen is estimated. */
const budgetMs = 2000

/**
 * Looks at the whole source to find out what a copy has to move and how much space the target takes up.
 *
 * @param options.done what of the disk is copied already: it is not to be moved again, but takes up space.
 */
export async function surveySource (
  source: Source, { format, allocation, virtualSize, clusterSize }: Shape, { done = [], signal }: { done?: Ranges, signal: AbortSignal }
): Promise<Work> {
  // what is mapped into memory by a writer shows in the times of the file only from here on
  await syncSource(source)
  const reader = new StatusReader(source, signal)
  const holes = new Holes(source, signal)
  const clusterBytes = clusterBytesOf({ format, ...(clusterSize !== undefined && { clusterSize }) })
  const count = new SpaceCount({ format, allocation, virtualSize, clusterBytes })
  const end = performance.now() + budgetMs
  let known: BlockStatus | undefined
  let movedBefore = 0
  let at = 0
  while (at < source.virtualSize && (at === 0 || performance.now() < end)) {
    const status = await reader.read(at, source.virtualSize)
    known ??= status
    const extents = await holes.cutOut(status.extents)
    count.add(extents)
    movedBefore += bytesIn(extents, done)
    at = status.end
  }
  const { bytesToMove, bytesNeeded } = count.survey(unseenOf(source, at, count.bytesSeen))
  return { bytesToMove: bytesToMove - movedBefore, bytesNeeded, ...(known !== undefined && { known }) }
}

/**
 * The holes in the files of a source. A preallocated qcow2 file has clusters that were never written: qemu-img calls them
 * data, and copies zeros, which take up no space.
 */
class Holes {
  readonly #source: Source
  readonly #signal: AbortSignal
  readonly #known = new Map<number, Promise<Ranges>>()

  constructor (source: Source, signal: AbortSignal) {
    this.#source = source
    this.#signal = signal
  }

  /** The extents, without what lies in a hole of its file. */
  async cutOut (extents: readonly Extent[]): Promise<Extent[]> {
    const pieces = await Promise.all(extents.map(async extent => {
      const { depth, offset, length, zero } = extent
      if (zero || offset === undefined || this.#source.files[depth]?.format !== 'qcow2') return [extent]
      const stored = [offset, offset + length] as const
      const written = subtract([stored], overlapping(await this.#of(depth), stored))
      return written.map(([from, to]) => ({ ...extent, start: extent.start + from - offset, length: to - from, offset: from }))
    }))
    return pieces.flat()
  }

  #of (layer: number): Promise<Ranges> {
    const holes = this.#known.get(layer) ?? this.#look(layer)
    this.#known.set(layer, holes)
    return holes
  }

  async #look (layer: number): Promise<Ranges> {
    const file = this.#source.files[layer]
    // in a long chain, most files are small, and each look costs a process
    if (file === undefined || this.#source.files.length > maxOpenLayers) return []
    const plain = { ...file, format: 'raw', virtualSize: file.identity.size } as const
    const { extents } = await new StatusReader({ ...this.#source, files: [plain], virtualSize: plain.virtualSize }, this.#signal).read(0, plain.virtualSize)
    return normalize(extents.filter(({ zero }) => zero).map(({ start, length }) => [start, start + length]))
  }
}

/** How much data of these ranges the extents have. */
function bytesIn (extents: readonly Extent[], ranges: Ranges): number {
  if (ranges.length === 0) return 0
  const data = extents.filter(({ zero }) => !zero).map(({ start, length }) => [start, start + length] as const)
  return total(intersect(data, ranges))
}

/** A raw file has no more data than it takes up; of others, the rest is taken to be like what was seen. */
function unseenOf ({ files, virtualSize, dataBytes }: Source, at: number, seenBytes: number): Unseen {
  const virtualBytes = Math.max(virtualSize - at, 0)
  const isRaw = files.length === 1 && files[0].format === 'raw'
  return { virtualBytes, dataBytes: isRaw ? Math.max(dataBytes - seenBytes, 0) : Math.round(seenBytes * virtualBytes / Math.max(at, 1)) }
}

/**
 * Adds up what a target takes up, extent by extent, from the front of the disk to its end. A raw target has the blocks
 * that hold data. A qcow2 target has whole clusters, a table for each stretch of the disk that has any, and the counters
 * of all its clusters (docs/interop/qcow2.txt of QEMU).
 */
export class SpaceCount {
  readonly #shape: Geometry
  #data = 0
  /** Clusters or blocks that hold data. */
  readonly #units: UnitCount
  readonly #tables: UnitCount

  constructor (shape: Geometry) {
    const { format, clusterBytes } = shape
    this.#shape = shape
    this.#units = new UnitCount(format === 'raw' ? blockBytes : clusterBytes)
    // a table is a cluster of entries of 8 bytes, one for each cluster of the disk
    this.#tables = new UnitCount(clusterBytes * clusterBytes / 8)
  }

  /** Bytes of data in the extents that were added. */
  get bytesSeen (): number { return this.#data }

  /** Counts extents that lie behind those before. */
  add (extents: readonly Extent[]): void {
    for (const { start, length, zero } of extents) {
      if (zero) continue
      this.#data += length
      this.#units.add(start, start + length)
      this.#tables.add(start, start + length)
    }
  }

  /** The sum, with the most that what was not looked at may add. */
  survey (unseen: Unseen = { virtualBytes: 0, dataBytes: 0 }): Survey {
    const { format, allocation, virtualSize, clusterBytes } = this.#shape
    const unseenData = Math.min(unseen.virtualBytes, unseen.dataBytes)
    const bytesToMove = this.#data + unseenData
    const isWhole = allocation === 'preallocated'
    if (format === 'raw') return { bytesToMove, bytesNeeded: isWhole ? virtualSize : this.#units.bytes + unseenData }
    const clusters = isWhole
      ? Math.ceil(virtualSize / clusterBytes)
      : this.#units.count + Math.ceil(unseenData / clusterBytes)
    const spanBytes = this.#tables.unitBytes
    const tables = isWhole ? Math.ceil(virtualSize / spanBytes) : this.#tables.count + Math.ceil(unseenData / spanBytes)
    return { bytesToMove, bytesNeeded: qcow2Bytes({ clusters, tables, virtualSize, clusterBytes }) }
  }
}

/** The length of a qcow2 file with so many clusters of data and tables of the second level. */
function qcow2Bytes (
  { clusters, tables, virtualSize, clusterBytes }: { clusters: number, tables: number, virtualSize: number, clusterBytes: number }
): number {
  const firstTable = Math.ceil(virtualSize / (clusterBytes * clusterBytes / 8)) * 8
  const known = 1 + Math.ceil(firstTable / clusterBytes) + tables + clusters
  // a counter of 16 bits for each cluster, those of the counters included, and a table of the counters' clusters
  const counters = Math.ceil(known / (clusterBytes / 2 - 1))
  const counterTable = Math.ceil(counters * 8 / clusterBytes)
  return (known + counters + counterTable) * clusterBytes
}

/** Counts which units of a fixed size ranges touch, each once. Ranges come in order. */
class UnitCount {
  readonly unitBytes: number
  count = 0
  /** The first unit that no range has touched. */
  #next = 0

  constructor (unitBytes: number) {
    this.unitBytes = unitBytes
  }

  get bytes (): number { return this.count * this.unitBytes }

  add (start: number, end: number): void {
    const first = Math.max(Math.floor(start / this.unitBytes), this.#next)
    const last = Math.ceil(end / this.unitBytes)
    if (last <= first) return
    this.count += last - first
    this.#next = last
  }
}
