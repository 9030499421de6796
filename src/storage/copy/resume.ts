import { randomUUID } from 'node:crypto'
import { AppError } from '../../errors.ts'
import { look } from '../../system/directory.ts'
import type { Area } from '../area.ts'
import { explain } from '../failure.ts'
import { identityOf, inodeOf, isSameContent } from '../identity.ts'
import type { Lease } from '../lease.ts'
import type { CopyJob } from '../protocol.ts'
import { total } from '../ranges.ts'
import { writeRecord, type CopyRecord } from '../record.ts'
import type { Acceptance, Decision } from './accept.ts'
import { createPart, removePart, reopenPart } from './part.ts'
import { probeSource, sourceChanges, type Source } from './source.ts'
import { takeSource } from './take-source.ts'

/**
 * Continues a copy: from what is done of it when the part is there, from the start when it is not. It writes to
 * nothing but the part that the record names, and never when a file that it may not replace has the image's name.
 */
export async function resume (job: CopyJob, area: Area, lease: Lease, record: CopyRecord): Promise<Decision> {
  const [top] = record.source?.files ?? []
  if (record.source === undefined || top === undefined) throw new AppError('copy-not-found', `Image ${record.image} in domain ${area.id} was being created, not copied. Send createImage again, or deleteImage.`)
  const preview = { bytesTotal: record.virtualSize, bytesDone: total(record.done) }
  const final = await look(area.root, record.image)
  // the image has its name already: only the record does not say so yet
  if (final !== undefined && record.phase === 'finishing' && inodeOf(final) === record.inode) {
    return { preview: { outcome: 'finish', ...preview }, proceed: async () => ({ how: 'finish', area, lease, record: await takeOver(job, area, record, {}) }) }
  }
  if (final !== undefined && (record.replaces === undefined || !isSameContent(record.replaces, identityOf(final)))) {
    throw new AppError('target-exists', `A file ${record.image} that is not this copy${record.replaces === undefined ? '' : ', nor the image as it was when the copy began,'} is in domain ${area.id}. Rename it and mend again; deleteImage would remove the unfinished copy and leave that file.`)
  }
  const source = await takeSource(job, { domain: record.source.domain, image: top.image, format: top.format })
  const changes = await sourceChanges(source, record.source.files)
  if (changes.length > 0) {
    throw new AppError('source-changed', `The source ${top.image} has changed since the copy began (${changes.join(', ')}): what is done of ${record.image} is of no use. Delete it and copy again.`, { members: { differs: changes } })
  }
  await probeSource(source)
  return { preview: { outcome: 'continue', ...preview }, proceed: async () => await proceed(job, area, lease, record, source) }
}

async function proceed (job: CopyJob, area: Area, lease: Lease, record: CopyRecord, source: Source): Promise<Acceptance> {
  // what a run before found out about its own end says nothing about the end of this one
  const { verified: _, ...unverified } = record
  const part = record.phase === 'creating' ? undefined : await reopenPart(area, record, record.inode)
  if (part !== undefined) {
    const phase = record.phase === 'finishing' ? 'copying' : record.phase
    return { how: 'run', accepted: { area, lease, source, part, record: await takeOver(job, area, unverified, { phase }) } }
  }
  await removePart(area, record.copyId)
  // a fresh part has a fresh name: on a shared file system the old name may still be seen
  const fresh = await takeOver(job, area, unverified, { phase: 'creating', copyId: randomUUID(), done: [], begun: [], bytesMoved: 0 })
  try {
    const made = await createPart(area, fresh)
    const copying: CopyRecord = { ...fresh, phase: 'copying', inode: made.inode }
    await writeRecord(area.copies, copying)
    return { how: 'run', accepted: { area, lease, source, part: made, record: copying } }
  } catch (cause) {
    const { code, message } = explain(cause, `The copy to ${record.image} could not be begun anew`)
    throw new AppError(code, `${message} The image stays interrupted.`, { cause, changed: true })
  }
}

/** Writes the record anew under this host's name, one epoch further: whoever had it before will notice. */
async function takeOver (job: CopyJob, area: Area, record: CopyRecord, change: Partial<CopyRecord>): Promise<CopyRecord> {
  const { bandwidth: _, canceledAt: __, ...rest } = record
  const next: CopyRecord = {
    ...rest,
    ...(job.bandwidth !== null && { bandwidth: job.bandwidth }),
    ...change,
    epoch: record.epoch + 1,
    host: job.host,
    taskId: job.taskId,
    checkpointAt: new Date().toISOString()
  }
  await writeRecord(area.copies, next)
  return next
}
