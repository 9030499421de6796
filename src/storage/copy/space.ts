import { randomUUID } from 'node:crypto'
import { AppError } from '../../errors.ts'
import { closeFd, openNameless, statFd, truncateFd } from '../../system/directory.ts'
import { hasErrno } from '../../system/errno.ts'
import type { Area } from '../area.ts'
import { explain } from '../failure.ts'
import type { CopyJob, SpaceClaim, SpaceGrant } from '../protocol.ts'
import { keyOf, type Named } from '../record.ts'
import { assertInodes, spaceOf } from '../space.ts'
import type { Part } from './part.ts'

/**
 * Throws `file-too-large` if the file system, or `ulimit -f`, does not allow a file of this size. It is tried with a file
 * that never has a name, or loses it at once. A preview that is killed in between would leave that: where a file system
 * has no nameless files, it does not try.
 */
export async function assertFits (
  { id, parts }: Area, image: string, bytes: number, { isPreview = false }: { isPreview?: boolean } = {}
): Promise<void> {
  const fd = await openNameless(parts, isPreview ? undefined : randomUUID())
  if (fd === undefined) return
  try {
    await truncateFd(fd, bytes)
  } catch (error) {
    if (!hasErrno(error, 'EFBIG')) throw error
    throw new AppError('file-too-large', `The copy ${image} needs a file of ${bytes} bytes. The file system of domain ${id}, or the limit of the agent (ulimit -f), does not allow one. Choose another domain, or qcow2.`, { members: { bytesNeeded: bytes }, cause: error })
  } finally {
    await closeFd(fd)
  }
}

/** Asks the agent for space on the file system of a domain, where its other copies are taking up theirs. */
export type ClaimSpace = (claim: SpaceClaim) => Promise<SpaceGrant>

/** What to claim. */
interface Need {
  named: Named
  bytesNeeded: number
  /** Take it, however little there is. */
  force: boolean
  /** Files are to be made for it. */
  needsFile?: boolean
}

/** What a domain has free for a copy, and what it needs; all in bytes. */
export interface SpaceNumbers {
  bytesFree: number
  bytesNeeded: number
  /** What other copies are still going to take up, and what is kept back. */
  bytesReserved: number
}

/** Claims the space of a copy. Throws `no-space` when there is not enough, unless that is to be ignored. */
export async function claimSpace (
  job: Pick<CopyJob, 'settings'> & { claim: ClaimSpace }, area: Area, { named, bytesNeeded, force, needsFile = true }: Need
): Promise<SpaceNumbers> {
  const space = await spaceOf(area, job.settings.reserveBytes)
  if (needsFile) assertInodes(area, space)
  const { bytesFree, reserveBytes } = space
  const device = String((await statFd(area.root.fd)).dev)
  const { granted, bytesReserved } = await job.claim({
    domain: area.id, device, key: keyOf(named), bytesNeeded, bytesFree: Math.max(bytesFree - reserveBytes, 0), force
  })
  const numbers = { bytesFree, bytesNeeded, bytesReserved: bytesReserved + reserveBytes }
  if (!granted) throw noSpace(area, numbers)
  return numbers
}

function noSpace ({ id }: Area, numbers: SpaceNumbers): AppError {
  const { bytesFree, bytesNeeded, bytesReserved } = numbers
  return new AppError('no-space', `The copy needs about ${bytesNeeded} bytes in domain ${id}. ${bytesFree} are free, of which ` +
    `${bytesReserved} are reserved for other copies and for records. Make space, or send "ignoreSpace": true to try it.`, { members: { ...numbers } })
}

/** Throws `no-space` where so many bytes more would use up what is kept back. */
export async function assertRoom (area: Area, { image, bytes, reserveBytes }: { image: string, bytes: number, reserveBytes: number }): Promise<void> {
  const { bytesFree, reserveBytes: kept } = await spaceOf(area, reserveBytes)
  if (bytesFree - bytes >= kept) return
  const words = `The copy of ${image} has stopped: the last ${kept} bytes of domain ${area.id} are kept back for records. ` +
    'Make space, then mend the image: what is done of it is kept.'
  throw new AppError('no-space', words, { changed: true })
}

/** What a part is still going to take up, by what its copy needs in all. */
export async function stillNeeded ({ part, bytesNeeded }: { part: Part, bytesNeeded: number }): Promise<number> {
  const taken = Number((await statFd(part.fd)).blocks) * 512
  return Math.max(bytesNeeded - taken, 0)
}

/** Adds to an error of a running copy that is about space how much there is, and how much is still needed. */
export async function withSpace (error: unknown, copy: { area: Area, part: Part, image: string, bytesNeeded: number }): Promise<unknown> {
  const known = explain(error, `Copying ${copy.image}`)
  if (known.code !== 'no-space' || 'bytesFree' in known.members) return error
  const { bytesFree, freeInodes } = await spaceOf(copy.area, 0)
  const members = { bytesFree, bytesNeeded: await stillNeeded(copy) }
  const inodes = freeInodes ? '' : ' The file system has no free inodes.'
  const words = `${known.message} ${bytesFree} bytes are free, about ${members.bytesNeeded} more are needed.${inodes}`
  return new AppError('no-space', words, { members, changed: known.changed, cause: error })
}
