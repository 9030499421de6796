import type { BigIntStats } from 'node:fs'
import type { CreateResult, DeleteResult } from '../../api/kinds.ts'
import { AppError } from '../../errors.ts'
import { look } from '../../system/directory.ts'
import { linkFile, removeFile } from '../../system/durable.ts'
import type { Area } from '../area.ts'
import { identityOf } from '../identity.ts'
import { assertRemovable } from '../layout/directory/removable.ts'
import { makePart, underLease } from '../layout/make-part.ts'
import type { CreateRequest, DeleteRequest } from '../protocol.ts'
import {
  assertOffered, hasCutOffWrite, readRecord, readToDelete, removeRecord, sourcelessRecord, writeIntent, writeRecord, type CopyRecord
} from '../record.ts'
import { assertCreatable } from '../space.ts'
import { fileStanding, isMeantBy, isStillThere } from '../standing.ts'
import { wholeBlocks } from '../whole-blocks.ts'

/**
 * Makes an empty image. It gets its name when it is whole; a record explains what a crash leaves before that. After a
 * crash the same command finishes it.
 */
export async function createImage (area: Area, request: CreateRequest): Promise<CreateResult> {
  const { image, format, allocation, clusterSize } = request
  const wanted = format === 'raw' ? wholeBlocks(request.virtualSize) : request.virtualSize
  const virtualSize = await underLease(area, { image }, async () => {
    const record = await readRecord(area.copies, area.id, image)
    const existing = await look(area.root, image)
    if (record !== undefined && existing !== undefined && isSameCreation(record, request, existing)) {
      await removeFile(area.parts, record.copyId)
      await removeRecord(area.copies, image)
      return record.virtualSize
    }
    if (existing !== undefined) throw new AppError('image-exists', `There is an image ${image} in domain ${area.id}. Delete it first, or choose another name.`)
    if (record !== undefined && record.phase !== 'done' && record.source !== undefined) {
      throw new AppError('image-interrupted', `${image} in domain ${area.id} is an unfinished copy. Mend it or delete it first.`)
    }
    await assertCreatable(area, request)
    if (record !== undefined && record.phase !== 'done') await removeFile(area.parts, record.copyId)
    const creating = sourcelessRecord(area, { image }, 'creating', request, { format, virtualSize: wanted, allocation, ...(clusterSize !== undefined && { clusterSize }) })
    try {
      await writeRecord(area.copies, creating)
      const target = await makePart(area, creating)
      // after a crash in between, this is what tells the image from a file that somebody else has put there
      await writeRecord(area.copies, { ...creating, phase: 'finishing', inode: target.inode, target })
      await linkFile(area.parts, creating.copyId, area.root, image)
    } finally {
      // whole or not: from here on the part is of no use
      await removeFile(area.parts, creating.copyId)
      await removeRecord(area.copies, image)
    }
    return wanted
  })
  return { domain: area.id, image, virtualSize }
}

/** Whether the creation that left this record ended, but for the record, and was the same as this one. */
function isSameCreation (record: CopyRecord, request: CreateRequest, existing: BigIntStats): boolean {
  return record.source === undefined && record.phase === 'finishing' && fileStanding(record, identityOf(existing)) === 'same' &&
    record.format === request.format && isSameSize(record, request) && record.allocation === request.allocation && record.clusterSize === request.clusterSize
}

/** An agent of another version may have begun it, which did not round up. */
function isSameSize ({ virtualSize, format }: CopyRecord, request: CreateRequest): boolean {
  return virtualSize === request.virtualSize || (format === 'raw' && virtualSize === wholeBlocks(request.virtualSize))
}

/**
 * Deletes an image, or an unfinished copy, or what is left of either. The intent is made durable first, and says which file
 * it means: after a crash nobody takes a half-deleted image for a good one, and any host can finish it.
 */
export async function deleteImage (area: Area, request: DeleteRequest, accepted: () => void): Promise<DeleteResult> {
  const { image } = request
  const bytesFreed = await underLease(area, { image }, async () => {
    const { record, broken } = await readToDelete(area.copies, area.id, image)
    const stats = await look(area.root, image)
    assertOffered(area, request, record, isWhole(record, stats))
    if (stats !== undefined && !stats.isFile()) throw new AppError('image-invalid', `${image} in domain ${area.id} is not a regular file: links, directories and devices are no images.`)
    const part = record === undefined ? undefined : await look(area.parts, record.copyId)
    if (stats === undefined && record === undefined && !broken && !await hasCutOffWrite(area.copies, image)) {
      throw new AppError('image-not-found', `There is no image ${image} in domain ${area.id}.`)
    }
    const isForeign = stats !== undefined && record !== undefined && !await belongsTo(record, area, stats)
    if (isForeign) {
      await removeFile(area.parts, record.copyId)
      await removeRecord(area.copies, image)
      // an intent cannot be told from one that means the file, too: here the deed itself is what is durable
      accepted()
      return bytesOf([part])
    }
    if (stats !== undefined) await assertRemovable(area, image, 'Nothing was deleted.')
    const identity = stats === undefined ? undefined : identityOf(stats)
    const intent = sourcelessRecord(area, { image }, 'deleting', request, record ?? emptyShape)
    const restore = await writeIntent(area.copies, identity === undefined ? intent : { ...intent, target: identity }, record)
    accepted()
    try {
      await removeFile(area.root, image)
    } catch (error) {
      // what is still there is as good as it was
      if (identity !== undefined && await isStillThere(area.root, image, identity)) await restore()
      throw error
    }
    if (record !== undefined) await removeFile(area.parts, record.copyId)
    await removeRecord(area.copies, image)
    return bytesOf(stats?.ino === part?.ino ? [stats] : [stats, part])
  }, { withoutFile: true })
  return { domain: area.id, image, bytesFreed }
}

/** Whether there is an image that nothing is to be made of any more: a copy has its name when it is whole. */
function isWhole (record: CopyRecord | undefined, stats: BigIntStats | undefined): boolean {
  if (stats === undefined) return false
  return record === undefined || (record.source !== undefined && fileStanding(record, identityOf(stats)) !== 'other')
}

const emptyShape = { format: 'raw', virtualSize: 0, allocation: 'sparse' } as const

const bytesOf = (files: ReadonlyArray<BigIntStats | undefined>) => files.reduce((sum, file) => sum + Number(file?.blocks ?? 0n) * 512, 0)

/** Whether the file that has the name is the one that is to go. Where another one has taken it, only the copy goes. */
async function belongsTo (record: CopyRecord, area: Area, stats: BigIntStats): Promise<boolean> {
  if (record.phase === 'done') return true
  if (record.phase === 'deleting') return await isMeantBy(record, area.copies, stats)
  return fileStanding(record, identityOf(stats)) !== 'other'
}
