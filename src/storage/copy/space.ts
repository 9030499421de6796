import { randomUUID } from 'node:crypto'
import { statfs } from 'node:fs/promises'
import { AppError } from '../../errors.ts'
import { closeFd, entry, openNameless, statFd, truncateFd } from '../../system/directory.ts'
import { hasErrno } from '../../system/errno.ts'
import type { Area } from '../area.ts'
import { explain } from '../failure.ts'
import type { CopyRecord } from '../record.ts'
import type { Part } from './part.ts'
import type { Source } from './source.ts'

/** About as much space as a whole copy takes: all of it if it is reserved, else as much as its source takes. */
export function spaceFor ({ allocation, virtualSize }: Pick<CopyRecord, 'allocation' | 'virtualSize'>, source: Pick<Source, 'dataBytes'>): number {
  return allocation === 'preallocated' ? virtualSize : Math.min(virtualSize, source.dataBytes)
}

/** The space that a domain has left for us. */
export async function freeSpace (area: Area): Promise<number> {
  const { bavail, bsize } = await statfs(entry(area.root, '.'))
  return bavail * bsize
}

/**
 * Throws `file-too-large` if the file system, or `ulimit -f`, does not allow a file of this size. It is tried with a file
 * that never has a name, or loses it at once.
 */
export async function assertFits ({ id, parts }: Area, image: string, bytes: number): Promise<void> {
  const fd = await openNameless(parts, randomUUID())
  try {
    await truncateFd(fd, bytes)
  } catch (error) {
    if (!hasErrno(error, 'EFBIG')) throw error
    throw new AppError('file-too-large', `The copy ${image} needs a file of ${bytes} bytes. The file system of domain ${id}, or the limit of the agent (ulimit -f), does not allow one. Choose another domain, or qcow2.`, { members: { bytesNeeded: bytes }, cause: error })
  } finally {
    await closeFd(fd)
  }
}

/** Adds to an error of a running copy that is about space how much there is, and about how much is still needed. */
export async function withSpace (error: unknown, { area, part, record, source }: { area: Area, part: Part, record: CopyRecord, source: Source }): Promise<unknown> {
  const known = explain(error, `Copying ${record.image}`)
  if (known.code !== 'no-space') return error
  const taken = Number((await statFd(part.fd)).blocks) * 512
  const members = { bytesFree: await freeSpace(area), bytesNeeded: Math.max(spaceFor(record, source) - taken, 0) }
  return new AppError('no-space', `${known.message} ${members.bytesFree} bytes are free, about ${members.bytesNeeded} more are needed.`, { members, changed: known.changed, cause: error })
}
