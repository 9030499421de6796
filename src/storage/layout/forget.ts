import type { ForgetResult } from '../../api/kinds.ts'
import { AppError } from '../../errors.ts'
import { look } from '../../system/directory.ts'
import { removeFile } from '../../system/durable.ts'
import type { Area } from '../area.ts'
import { identityOf } from '../identity.ts'
import type { ForgetRequest } from '../protocol.ts'
import { assertOffered, keyOf, readToDelete, removeRecord, wordsOf, type CopyRecord } from '../record.ts'
import { fileStanding } from '../standing.ts'
import { underLease } from './make-part.ts'
import { standingOf } from './ovirt/volume-state.ts'
import { readVolume, withImage } from './ovirt/volumes.ts'

/**
 * Removes the copy record of an image or volume, and nothing else. A record that is all there is of an unfinished copy is
 * kept: without it, what is done of the copy would be lost.
 */
export async function forgetCopy (area: Area, request: ForgetRequest): Promise<ForgetResult> {
  const { image, volume } = request
  const named = { image, volume }
  const isForgotten = await underLease(area, named, async () => {
    const key = keyOf(named)
    const { record } = await readToDelete(area.copies, area.id, key)
    assertOffered(area, request, record, record?.phase === 'done')
    if (record !== undefined && await isUnfinished(area, record)) {
      throw new AppError('image-interrupted', `${wordsOf(named)} in domain ${area.id} is an unfinished copy or creation. Finish it, or delete it; its record is needed for both.`)
    }
    // of a copy that has its name, this is only another name of the same file
    if (record !== undefined) await removeFile(area.parts, record.copyId)
    return await removeRecord(area.copies, key)
  }, { withoutFile: true })
  return { domain: area.id, image, ...(volume !== undefined && { volume }), forgotten: isForgotten }
}

async function isUnfinished (area: Area, record: CopyRecord): Promise<boolean> {
  const { phase, image, volume } = record
  if (phase === 'done' || phase === 'deleting') return false
  if (volume === undefined) {
    const stats = await look(area.images, image)
    return stats === undefined || fileStanding(record, identityOf(stats)) === 'other'
  }
  const standing = await withImage(area, image, async directory => directory === undefined ? 'open' : standingOf(record, await readVolume(area, image, directory, volume)))
  return standing === 'open' || standing === 'foreign'
}
