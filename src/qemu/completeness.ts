import { readBytes, statFd } from '../system/directory.ts'
import { firstTable, hasSubclusters, refcountTable, snapshotTable } from './cluster-table.ts'
import { bitmapDirectory } from './extensions.ts'
import { firstClusterBytes } from './geometry.ts'
import { invalidImage } from './header.ts'

const MiB = 1024 * 1024

/** What qemu takes of the two tables that lead to the others (QCOW_MAX_L1_SIZE, QCOW_MAX_REFTABLE_SIZE). */
const maxFirstTableBytes = 32 * MiB
const maxRefcountTableBytes = 8 * MiB
/** Of the list of snapshots, whose names may be long. */
const maxSnapshotBytes = MiB
/** With the smallest clusters, there are very many. */
const maxSecondTables = 1024

/** Up to where the file must reach, and what lies there. */
interface Claim {
  what: string
  end: number
  /** So much of it need not be there. */
  spare?: number
}

/**
 * Refuses a qcow2 file that is shorter than its tables say, as a copy or a download that broke leaves it: qemu reads
 * zeros for what is cut off. All tables but those of the second level are looked at, and of these so many bytes, those
 * that lie last in the file first: what is cut off is the end. Throws `image-invalid`.
 *
 * @param start the header, which must have been parsed.
 */
export async function assertComplete (
  fd: number, start: Buffer, image: string, { secondTableBytes }: { secondTableBytes: number }
): Promise<void> {
  const clusterBytes = firstClusterBytes(start)
  const first = await readTable(fd, firstTable(start), maxFirstTableBytes, image)
  const counts = await readTable(fd, refcountTable(start, clusterBytes), maxRefcountTableBytes, image)
  const tables = offsetsIn(first)
  const claims = [
    endOf('the table of its reference counts', refcountTable(start, clusterBytes)),
    { what: 'a block of its reference counts', end: furthest(offsetsIn(counts), clusterBytes) },
    { what: 'a table of its clusters', end: furthest(tables, clusterBytes) },
    { what: 'the list of its snapshots', end: await snapshotsEnd(fd, start) },
    endOf('the list of its bitmaps', bitmapDirectory(start) ?? { offset: 0, bytes: 0 }),
    ...await dataClaims(fd, start, tables, secondTableBytes)
  ]
  // last: who writes the image makes the file longer first
  const fileBytes = Number((await statFd(fd)).size)
  for (const { what, end, spare = 0 } of claims) {
    if (end <= fileBytes + spare) continue
    throw invalidImage(image, `it is cut off: ${what} lies up to byte ${end} of its file, which has ${fileBytes}`)
  }
}

interface Table {
  offset: number
  bytes: number
}

const endOf = (what: string, { offset, bytes }: Table): Claim => ({ what, end: bytes === 0 ? 0 : offset + bytes })

async function readTable (fd: number, { offset, bytes }: Table, most: number, image: string): Promise<Buffer> {
  if (bytes > most) throw invalidImage(image, `it has a table of ${bytes} bytes, which is more than qcow2 allows`)
  return await readBytes(fd, bytes, offset)
}

/** Where what an entry of a table names lies: bits 9 to 55. They fit a number, as the lowest nine are zero. */
function offsetAt (table: Buffer, at: number): number {
  return (table.readUInt32BE(at) & 0x00ffffff) * 2 ** 32 + ((table.readUInt32BE(at + 4) & 0xfffffe00) >>> 0)
}

function offsetsIn (table: Buffer): Set<number> {
  const offsets = new Set<number>()
  for (let at = 0; at + 8 <= table.length; at += 8) {
    const offset = offsetAt(table, at)
    if (offset !== 0) offsets.add(offset)
  }
  return offsets
}

function furthest (offsets: ReadonlySet<number>, bytes: number): number {
  let end = 0
  for (const offset of offsets) end = Math.max(end, offset + bytes)
  return end
}

/** The list has no length of its own: it is read entry by entry. */
async function snapshotsEnd (fd: number, start: Buffer): Promise<number> {
  const { offset, count } = snapshotTable(start)
  if (count === 0) return 0
  const table = await readBytes(fd, maxSnapshotBytes, offset)
  let end = 0
  for (let left = count; left > 0; left--) {
    const at = Math.ceil(end / 8) * 8
    // what is not there has no length; it takes up this much at least
    const isRead = at + fixedSnapshotBytes <= table.length
    if (!isRead) return table.length === maxSnapshotBytes ? 0 : offset + at + left * fixedSnapshotBytes
    const names = table.readUInt16BE(at + 12) + table.readUInt16BE(at + 14)
    end = at + fixedSnapshotBytes + table.readUInt32BE(at + 36) + names
  }
  return offset + end
}

/** An entry of the list of snapshots without its names, and what later versions have added. */
const fixedSnapshotBytes = 40

/** Up to where the clusters reach that the last tables of the second level name. */
async function dataClaims (
  fd: number, start: Buffer, tables: ReadonlySet<number>, budgetBytes: number
): Promise<Claim[]> {
  const clusterBytes = firstClusterBytes(start)
  const most = Math.min(maxSecondTables, Math.floor(budgetBytes / clusterBytes))
  const last = [...tables].sort((a, b) => b - a).slice(0, most)
  let stored = 0
  let compressed = 0
  for (const offset of last) {
    const ends = dataEnds(await readBytes(fd, clusterBytes, offset), start)
    stored = Math.max(stored, ends.stored)
    compressed = Math.max(compressed, ends.compressed)
  }
  // the last cluster may be stored in part, and so may the last sector of compressed data
  return [
    { what: 'data of it', end: stored, spare: clusterBytes - 1 },
    { what: 'compressed data of it', end: compressed, spare: 511 }
  ]
}

/** Where the last cluster and the last compressed data end that a table of the second level names. */
function dataEnds (table: Buffer, start: Buffer): { stored: number, compressed: number } {
  const clusterBytes = firstClusterBytes(start)
  const isExtended = hasSubclusters(start)
  // of compressed data, the number of sectors begins at this bit
  const sectorsBit = 70 - Math.log2(clusterBytes)
  let [stored, compressed] = [0, 0]
  for (let at = 0; at + 8 <= table.length; at += isExtended ? 16 : 8) {
    const high = table.readUInt32BE(at)
    if ((high & 0x40000000) !== 0) {
      const highBits = high & 0x3fffffff
      const offset = (highBits % 2 ** (sectorsBit - 32)) * 2 ** 32 + table.readUInt32BE(at + 4)
      const sectors = Math.floor(highBits / 2 ** (sectorsBit - 32)) + 1
      compressed = Math.max(compressed, offset - offset % 512 + sectors * 512)
      continue
    }
    // what reads as zeros needs no data
    const isData = isExtended
      ? at + 16 <= table.length && table.readUInt32BE(at + 12) !== 0
      : (table.readUInt32BE(at + 4) & 1) === 0
    const offset = offsetAt(table, at)
    if (isData && offset !== 0) stored = Math.max(stored, offset + clusterBytes)
  }
  return { stored, compressed }
}
