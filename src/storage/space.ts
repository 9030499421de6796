import { statfs } from 'node:fs/promises'
import { AppError } from '../errors.ts'
import { entry } from '../system/directory.ts'
import type { Area } from './area.ts'
import type { CreateRequest } from './protocol.ts'

/** The file system of a domain. All in bytes. */
export interface Space {
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
    bytesFree: bavail * bsize,
    reserveBytes: Math.min(reserveBytes, Math.floor(blocks * bsize * reserveShare)),
    // file systems that make inodes as they are needed have none to count
    freeInodes: files === 0 || ffree > 0
  }
}

/** Throws `no-space` if a preallocated image does not fit beside what is reserved. A sparse one takes up next to nothing. */
export async function assertCreatable (
  area: Area, { allocation, virtualSize, bytesReserved = 0, reserveBytes = 0 }: Pick<CreateRequest, 'allocation' | 'virtualSize' | 'bytesReserved' | 'reserveBytes'>
): Promise<void> {
  if (allocation !== 'preallocated') return
  const { bytesFree, reserveBytes: kept } = await spaceOf(area, reserveBytes)
  const numbers = { bytesFree, bytesNeeded: virtualSize, bytesReserved: bytesReserved + kept }
  if (virtualSize + numbers.bytesReserved <= bytesFree) return
  throw new AppError('no-space', `A preallocated image of ${virtualSize} bytes does not fit into domain ${area.id}. ${bytesFree} are free, of which ` +
    `${numbers.bytesReserved} are reserved for copies and for records. Make space, or send "allocation": "sparse".`, { members: numbers })
}
