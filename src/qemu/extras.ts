import { readBytes } from '../system/directory.ts'
import { snapshotTable } from './cluster-table.ts'
import { bitmapDirectory } from './extensions.ts'
import { invalidImage } from './header.ts'

/** What a qcow2 file has that is no part of the disk that a guest sees. */
export interface Extras {
  /** Names of the internal snapshots; the id of one that has none. */
  snapshots: string[]
  /** Names of the persistent dirty bitmaps. */
  bitmaps: string[]
}

/** A list of entries, each filled up to a multiple of 8 bytes. */
interface List {
  offset: number
  /** One of these is known. */
  count?: number
  bytes?: number
  /** Of an entry before what later versions have added, and its names. */
  fixedBytes: number
  /** What follows the fixed part of an entry, in bytes. */
  sizesIn (fixed: Buffer): { extra: number, names: number[] }
}

/** qemu takes no longer list of snapshots (QCOW_MAX_SNAPSHOTS_SIZE), and of bitmaps a far shorter one. */
const maxListBytes = 64 * 1024 * 1024
/** Nobody is told more of a name. */
const maxNameBytes = 1024

/**
 * Reads the names of internal snapshots and persistent bitmaps (docs/interop/qcow2.txt of QEMU). Throws `image-invalid`.
 *
 * @param start the header, which must have been parsed.
 */
export async function extrasOf (fd: number, start: Buffer, image: string): Promise<Extras> {
  const snapshots = await namesIn(fd, image, {
    ...snapshotTable(start),
    fixedBytes: 40,
    sizesIn: fixed => ({ extra: fixed.readUInt32BE(36), names: [fixed.readUInt16BE(12), fixed.readUInt16BE(14)] })
  })
  const directory = bitmapDirectory(start)
  const bitmaps = directory === undefined
    ? []
    : await namesIn(fd, image, {
      ...directory,
      fixedBytes: 24,
      sizesIn: fixed => ({ extra: fixed.readUInt32BE(20), names: [fixed.readUInt16BE(18)] })
    })
  return { snapshots: snapshots.map(([id = '', name = '']) => name === '' ? id : name), bitmaps: bitmaps.map(([name = '']) => name) }
}

async function namesIn (
  fd: number, image: string, { offset, count = Infinity, bytes = maxListBytes, fixedBytes, sizesIn }: List
): Promise<string[][]> {
  const found: string[][] = []
  const end = offset + Math.min(bytes, maxListBytes)
  for (let at = offset; found.length < count && at < end;) {
    const fixed = await readBytes(fd, fixedBytes, at)
    if (fixed.length < fixedBytes) throw invalidImage(image, 'a list of its snapshots or bitmaps is cut off')
    const { extra, names } = sizesIn(fixed)
    at += fixedBytes + extra
    const texts: string[] = []
    for (const length of names) {
      texts.push((await readBytes(fd, Math.min(length, maxNameBytes), at)).toString())
      at += length
    }
    if (at > end) throw invalidImage(image, 'a list of its snapshots or bitmaps is larger than qcow2 allows')
    found.push(texts)
    at = offset + Math.ceil((at - offset) / 8) * 8
  }
  return found
}
