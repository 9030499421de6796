import type { VerifyResult } from '../../api/kinds.ts'
import { compareCommand, parseDifference, parsePercentage } from '../../qemu/commands.ts'
import type { NodeFile } from '../../qemu/node.ts'
import { runQemu } from '../../qemu/run.ts'
import type { Owner } from '../../system/directory.ts'
import { CommandError } from '../../system/run.ts'
import { explain } from '../failure.ts'
import type { CopyAgentFunctions } from '../protocol.ts'
import type { Ranges } from '../ranges.ts'
import { StatusReader, type BlockStatus } from './block-status.ts'
import { allLayers, layerFds, layerNodes, layersOf, maxOpenLayers, type Layered, type Layers } from './layers.ts'
import type { Source } from './source.ts'

/** A disk as a guest sees it, by its files. */
export interface Disk extends Layered {
  virtualSize: number
  /** Tells which layers decide about which part. Only a long chain needs it. */
  source?: Source
}

interface Options {
  signal: AbortSignal
  owner: Owner | undefined
  /** What the percentages that are reported are of. */
  bytesTotal: number
  report: CopyAgentFunctions['progress']
}

export function diskOf (source: Source): Disk {
  return { ...source, source }
}

/** A disk that is one file. */
export function soleDisk (file: NodeFile, virtualSize: number): Disk {
  return { files: [{ ...file, virtualSize }], virtualSize }
}

/** Parts are cut at multiples of this. */
const alignBytes = 1024 * 1024
const sectorBytes = 512

/**
 * Compares two disks as a guest sees them; bytes that one has beyond the end of the other are equal if they are zero. One
 * qemu-img does it, unless a chain is so long that it would need much time and memory only to open it: such a disk is
 * compared part by part, each time with the few layers that decide about that.
 */
export async function compareDisks (a: Disk, b: Disk, options: Options): Promise<VerifyResult> {
  const { bytesTotal, report } = options
  report({ phase: 'verifying', bytesTotal, bytesDone: 0 })
  const [layersA, layersB] = [allLayers(a), allLayers(b)]
  if (layersA !== undefined && layersB !== undefined) return await run([[a, layersA], [b, layersB]], undefined, options)
  for await (const { range, layers } of partsOf([a, b], options.signal)) {
    const disks = [a, b].flatMap((disk, index): Array<[Disk, Layers]> => range[0] >= endOf(disk) ? [] : [[disk, layers[index] ?? [0]]])
    const result = await run(disks, range, options)
    if (!result.identical) return result
  }
  return { identical: true }
}

/** In whole sectors, as qemu sees it. */
const endOf = ({ virtualSize }: Disk): number => Math.ceil(virtualSize / sectorBytes) * sectorBytes

/** The parts of two disks, from the front to the end of the longer one. None reaches over the end of the other. */
async function * partsOf (disks: readonly Disk[], signal: AbortSignal): AsyncGenerator<{ range: Ranges[number], layers: Layers[] }> {
  const readers = disks.map(disk => disk.source === undefined || allLayers(disk) !== undefined ? undefined : new StatusReader(disk.source, signal))
  const ends = disks.map(endOf).sort((a, b) => a - b)
  let at = 0
  for (const end of ends) {
    while (at < end) {
      const from = at
      const known = await Promise.all(readers.map(async reader => await reader?.read(from, end)))
      const until = Math.min(...known.map(status => borderIn(status, from, end)))
      for (let start = from; start < until;) {
        const part = cut(disks, known, [start, until])
        yield part
        start = part.range[1]
      }
      at = until
    }
  }
}

/** Up to where a part may reach by what is known of a disk. */
function borderIn (status: BlockStatus | undefined, from: number, end: number): number {
  if (status === undefined || status.end >= end) return end
  const border = Math.floor(status.end / alignBytes) * alignBytes
  // a look that ends within the last sector has come to the end of its disk
  return border > from ? border : end
}

/** The longest part from `start` on that few layers of both disks decide about. */
function cut (
  disks: readonly Disk[], known: ReadonlyArray<BlockStatus | undefined>, [start, until]: Ranges[number]
): { range: Ranges[number], layers: Layers[] } {
  for (let length = until - start; ; length /= 2) {
    const end = Math.min(start + Math.max(Math.floor(length / alignBytes), 1) * alignBytes, until)
    const layers = disks.map((disk, index) => allLayers(disk) ?? layersOf(disk, known[index]?.extents ?? [], [start, end]))
    if (layers.every(({ length }) => length <= maxOpenLayers) || end - start <= alignBytes) return { range: [start, end], layers }
  }
}

/** Compares a part of two disks, or of one with zeros; without a part, all of both. */
async function run (
  disks: ReadonlyArray<readonly [Disk, Layers]>, part: Ranges[number] | undefined, { signal, owner, bytesTotal, report }: Options
): Promise<VerifyResult> {
  const [first, second] = disks
  if (first === undefined) return { identical: true }
  const fds = disks.flatMap(([disk, layers]) => layerFds(disk, layers))
  const nodes = ([disk, layers]: readonly [Disk, Layers], firstFd: number) => layerNodes(disk, layers, firstFd)
  const [offset, end] = part ?? [0, bytesTotal]
  const window = part === undefined ? undefined : { offset, length: end - offset }
  const command = compareCommand(nodes(first, 3), second === undefined ? 'zeros' : nodes(second, 3 + first[1].length), window)
  let printed = ''
  const ended = await runQemu(command, {
    fds,
    owner,
    workBytes: end - offset,
    signal,
    onStdout: text => {
      // the verdict is the last thing it prints
      printed = (printed + text).slice(-1000)
      const percent = parsePercentage(text)
      if (percent === undefined) return
      report({ phase: 'verifying', bytesTotal, bytesDone: Math.min(offset + Math.floor((end - offset) * percent / 100), bytesTotal) })
    }
  })
  signal.throwIfAborted()
  if (ended.exitCode === 0) return { identical: true }
  if (ended.exitCode !== 1) throw explain(new CommandError('qemu-img compare failed', ended), 'The images could not be compared')
  const difference = parseDifference(printed)
  return { identical: false, ...(difference !== undefined && { firstDifference: offset + difference }) }
}
