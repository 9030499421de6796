import { constants } from 'node:fs'
import { AppError } from '../../errors.ts'
import { createCommand } from '../../qemu/commands.ts'
import { runQemuOk } from '../../qemu/run.ts'
import { closeFd, openFile, statFd, truncateFd } from '../../system/directory.ts'
import { syncDirectory, syncFile } from '../../system/durable.ts'
import { giveImageAccess, type Area } from '../area.ts'
import { identityOf, type Identity } from '../identity.ts'
import { takeImageLease } from '../image-lease.ts'
import { outlastOthers } from '../patience.ts'
import { wordsOf, type CopyRecord, type Named } from '../record.ts'

/** Makes an empty image in a part, which nobody sees, durable with its name. */
export async function makePart (area: Area, record: CopyRecord): Promise<Identity> {
  const { copyId, format, virtualSize, allocation, clusterSize } = record
  const fd = await openFile(area.parts, copyId, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL)
  try {
    await giveImageAccess(area, fd)
    if (format === 'raw' && allocation === 'sparse') await truncateFd(fd, virtualSize)
    else {
      const command = createCommand({ fd: 3, format }, virtualSize, allocation, clusterSize)
      await runQemuOk(command, { fds: [fd], writes: [3], owner: area.owner, workBytes: virtualSize, maxOutput: 0 })
    }
    await syncFile(fd)
    await syncDirectory(area.parts)
    return identityOf(await statFd(fd))
  } finally {
    await closeFd(fd)
  }
}

/**
 * Does something to an image or volume under its lease. Throws `resource-busy`.
 *
 * @param options.withoutFile it makes space: where there is none for a lease file, it goes without.
 */
export async function underLease<T> (
  area: Area, named: Named, work: () => Promise<T>, options: { withoutFile?: boolean } = {}
): Promise<T> {
  const lease = await takeImageLease(area, named, 'exclusive', options)
  if (lease === undefined) throw new AppError('resource-busy', `Image ${wordsOf(named)} in domain ${area.id} is in use: it is being copied, or read by a copy.`)
  try {
    // whoever held the lease before may have written a moment ago
    await outlastOthers(area, lease)
    return await work()
  } finally {
    await lease.release()
  }
}
