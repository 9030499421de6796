import { statfs } from 'node:fs/promises'
import { AppError } from '../errors.ts'
import { entry } from '../system/directory.ts'
import type { Area } from './area.ts'
import { explain } from './failure.ts'
import type { CreatePreview, CreateShape } from './protocol.ts'

/** The file system of a domain. All in bytes. */
export interface Space {
  bytesTotal: number
  bytesFree: number
  /** Kept back for records and the like, so that mending and deleting work on full storage. */
  reserveBytes: number
  /** Every file needs one, and some file systems have a fixed number of them. */
  freeInodes: boolean
}

/** The most of a small file system that is kept back. */
const reserveShare = 0.02

/** The space that a domain has left for us. */
export async function spaceOf (area: Area, reserveBytes: number): Promise<Space> {
  const { bavail, blocks, bsize, ffree, files } = await statfs(entry(area.root, '.'))
  return {
    bytesTotal: blocks * bsize,
    bytesFree: bavail * bsize,
    reserveBytes: Math.min(reserveBytes, Math.floor(blocks * bsize * reserveShare)),
    // file systems that make inodes as they are needed have none to count
    freeInodes: files === 0 || ffree > 0
  }
}

/** Throws `no-space` if not one file more can be made. */
export function assertInodes ({ id }: Pick<Area, 'id'>, { freeInodes }: Space): void {
  if (!freeInodes) throw new AppError('no-space', noInodesWords(id))
}

const noInodesWords = (id: string) =>
  `Domain ${id} has no free inodes: its file system cannot hold one more file, however much space is free. Delete files there.`

/** Of an error that says there is no space: that there are no inodes, where that is the reason. Any other as it is. */
export async function namingInodes (area: Area, error: unknown, what: string): Promise<unknown> {
  const { code, message, members, changed } = explain(error, what)
  if (code !== 'no-space' || /\binodes\b/.test(message)) return error
  const { freeInodes } = await spaceOf(area, 0)
  return freeInodes ? error : new AppError('no-space', `${what}: ${noInodesWords(area.id)}`, { members, changed, cause: error })
}

/** A qcow2 image begins with its header, a table of clusters, and a table and a block of their counts. */
const emptyClusters = 4
const usualClusterBytes = 65536

/**
 * Throws `no-space` if an image cannot be made: a preallocated one must fit beside what is reserved, a sparse one takes up
 * next to nothing, and is small beside what is kept back.
 */
export async function assertCreatable (
  area: Area, { format, allocation, virtualSize, clusterSize = usualClusterBytes, bytesReserved = 0, reserveBytes = 0 }: CreateShape
): Promise<CreatePreview> {
  const space = await spaceOf(area, reserveBytes)
  assertInodes(area, space)
  const { bytesFree, reserveBytes: kept } = space
  const ownBytes = format === 'raw' ? 0 : emptyClusters * clusterSize
  const isWhole = allocation === 'preallocated'
  const bytesNeeded = ownBytes + (isWhole ? virtualSize : 0)
  const numbers = { bytesFree, bytesNeeded, bytesReserved: isWhole ? bytesReserved + kept : 0 }
  if (bytesNeeded + numbers.bytesReserved <= bytesFree) return numbers
  const words = isWhole
    ? `A preallocated image of ${virtualSize} bytes does not fit into domain ${area.id}. ${bytesFree} are free, of which ` +
      `${numbers.bytesReserved} are reserved for copies and for records. Make space, or send "allocation": "sparse".`
    : `An image needs ${bytesNeeded} bytes in domain ${area.id}, and ${bytesFree} are free. Make space.`
  throw new AppError('no-space', words, { members: numbers })
}
