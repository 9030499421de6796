import { mapCommand } from '../../qemu/commands.ts'
import { classifyFailure } from '../../qemu/failure.ts'
import { ExtentReader, type Extent } from '../../qemu/map.ts'
import { runQemuOk } from '../../qemu/run.ts'
import { CommandError } from '../../system/run.ts'
import type { Ranges } from '../ranges.ts'
import { groupsOf, layerFds, layerNodes, type Layers } from './layers.ts'
import { assertWhole, type Source } from './source.ts'

/** Where the data of a part of a source lies. */
export interface BlockStatus {
  /** Back to back, from the start of what was asked for. */
  extents: Extent[]
  /** Where they end: earlier than asked for if there were too many. */
  end: number
}

/** So many extents fit into the memory of a worker, however fragmented the disk. */
const maxExtents = 20_000
/** glibc reserves 64 MiB of address space for each thread otherwise, and the limit on it then fails at random. */
const fewArenas = { GLIBC_TUNABLES: 'glibc.malloc.arena_max=1' } as const

/**
 * Asks which parts of a source hold data, from `start` on, up to `end` at most. qemu-img needs time and memory that grow
 * with the cube of a chain's length, so a long chain is asked in groups of layers, from the top down.
 */
export async function blockStatus (
  source: Source, [start, end]: Ranges[number], { signal, groupLayers }: { signal: AbortSignal, groupLayers?: number }
): Promise<BlockStatus> {
  let known: BlockStatus = { extents: [], end: Math.min(end, source.virtualSize) }
  // a layer that is shorter than those above hides what lies below: there, the disk reads as zeros
  let visibleEnd = known.end
  for (const [index, group] of groupsOf(source, groupLayers).entries()) {
    const shortest = Math.min(...group.map(layer => source.files[layer]?.virtualSize ?? 0))
    const top = source.files[group[0]]?.virtualSize ?? 0
    const until = Math.min(known.end, visibleEnd, top)
    if (index > 0 && !known.extents.some(extent => isOpen(extent, until))) break
    if (until > start) {
      const found = await groupStatus(source, group, { start, end: until, signal })
      known = index === 0 ? found : merge(known, found, until)
    }
    visibleEnd = Math.min(visibleEnd, shortest)
  }
  assertWhole(source, known.extents)
  return known
}

const firstLookBytes = 16 * 1024 ** 3
/** A look at this much ends in time, even with the smallest clusters there are (512 bytes). */
const minLookBytes = 64 * 1024 * 1024
/** A look that finds fewer extents than this makes the next one longer: each costs a process. */
const fewExtents = 1250

/** Reads the block status of a source from front to back, in looks that are as long as memory and limits allow. */
export class StatusReader {
  readonly #source: Source
  readonly #signal: AbortSignal
  #lookBytes = firstLookBytes
  #known: BlockStatus | undefined

  /** @param known what has been read already, from the start of the disk. */
  constructor (source: Source, signal: AbortSignal, known?: BlockStatus) {
    this.#source = source
    this.#signal = signal
    this.#known = known
  }

  /** What lies from `start` on, up to `end` at most. Beyond the end of the source, a larger target has no extents. */
  async read (start: number, end: number): Promise<BlockStatus> {
    if (start >= this.#source.virtualSize) return { extents: [], end }
    const known = start === 0 ? this.#known : undefined
    if (known !== undefined) return this.#adapt(known)
    for (;;) {
      const until = Math.min(start + this.#lookBytes, end)
      try {
        return this.#adapt(await blockStatus(this.#source, [start, until], { signal: this.#signal }))
      } catch (error) {
        // what the limits of processor time and memory end is tried in smaller pieces
        const tooMuch = error instanceof CommandError && (error.signal === 'SIGXCPU' || classifyFailure(error) === 'no-memory')
        if (!tooMuch || until - start <= minLookBytes) throw error
        this.#lookBytes = Math.max(this.#lookBytes / 16, minLookBytes)
      }
    }
  }

  #adapt (status: BlockStatus): BlockStatus {
    if (status.extents.length < fewExtents) this.#lookBytes = Math.min(this.#lookBytes * 4, 2 ** 45)
    return status
  }
}

/** Whether layers further down decide about (a part of) an extent. */
function isOpen ({ present, start }: Extent, until: number): boolean {
  return !present && start < until
}

/** What the upper layers leave open is as the lower ones have it, up to `until`. */
function merge (upper: BlockStatus, lower: BlockStatus, until: number): BlockStatus {
  // the lower layers may have had too many extents
  const end = lower.end < until ? lower.end : upper.end
  const extents: Extent[] = []
  let next = 0
  for (const extent of upper.extents) {
    const extentEnd = Math.min(extent.start + extent.length, end)
    if (extent.start >= extentEnd) break
    if (!isOpen(extent, until)) {
      extents.push(cut(extent, extent.start, extentEnd))
      continue
    }
    const openEnd = Math.min(extentEnd, until)
    for (; next < lower.extents.length; next++) {
      const below = lower.extents[next]
      if (below === undefined || below.start >= openEnd) break
      const [from, to] = [Math.max(below.start, extent.start), Math.min(below.start + below.length, openEnd)]
      if (from < to) extents.push(cut(below, from, to))
      if (below.start + below.length > openEnd) break
    }
    if (openEnd < extentEnd) extents.push(cut(extent, openEnd, extentEnd))
  }
  return { extents, end }
}

/** A part of an extent. */
function cut ({ offset, ...extent }: Extent, from: number, to: number): Extent {
  return { ...extent, start: from, length: to - from, ...(offset !== undefined && { offset: offset + from - extent.start }) }
}

/** The block status of a few layers by themselves, ended when there is enough of it. */
async function groupStatus (
  source: Source, group: Layers, { start, end, signal }: { start: number, end: number, signal: AbortSignal }
): Promise<BlockStatus> {
  const reader = new ExtentReader()
  const enough = new AbortController()
  let invalid: unknown
  await runQemuOk(mapCommand(layerNodes(source, group, 3), start, end - start), {
    fds: layerFds(source, group),
    owner: source.owner,
    env: fewArenas,
    maxOutput: 'streamed',
    signal: AbortSignal.any([signal, enough.signal]),
    onStdout: text => {
      if (enough.signal.aborted) return
      try {
        reader.push(text)
      } catch (error) {
        invalid = error
      }
      if (invalid !== undefined || reader.extents.length >= maxExtents) enough.abort()
    }
  }).catch((error: unknown) => {
    signal.throwIfAborted()
    if (!enough.signal.aborted) throw error
  })
  if (invalid !== undefined) throw invalid
  const extents = reader.extents.map(extent => ({ ...extent, depth: group[extent.depth] ?? 0 }))
  const last = extents.at(-1)
  return { extents, end: last === undefined ? start : last.start + last.length }
}
