import type { Dropped } from '../../api/kinds.ts'
import { randomUUID } from 'node:crypto'
import { AppError } from '../../errors.ts'
import { look } from '../../system/directory.ts'
import type { Area } from '../area.ts'
import { explain } from '../failure.ts'
import type { CopyTarget } from '../layout/copy-target.ts'
import type { ImageLease } from '../image-lease.ts'
import type { CopyJob } from '../protocol.ts'
import { total } from '../ranges.ts'
import { wordsOf, writeRecord, type CopyRecord } from '../record.ts'
import type { AcceptJob, Membership, Single, SingleDecision } from './accept.ts'
import { createPart, reopenPart } from './part.ts'
import { assertNothingLost } from './dropped.ts'
import { probeSource, sourceChanges, sourceWarnings, type Source } from './source.ts'
import { claimSpace } from './space.ts'
import { surveySource, type Work } from './survey.ts'
import { takeSource } from './take-source.ts'

/** The target, with its lease. */
interface Held {
  area: Area
  target: CopyTarget
  lease: ImageLease
  membership: Membership | undefined
}

/**
 * Continues a copy: from what is done of it when the part is there, from the start when it is not. It writes to
 * nothing but the part that the record names, and never when a file that it may not replace has the image's name.
 */
export async function resume (job: AcceptJob, held: Held, before: CopyRecord): Promise<SingleDecision> {
  const { area, target, lease, membership } = held
  // another command for the chain has another copy of it: from now on, this one is part of that
  const record = membership?.partOf === undefined ? before : { ...before, partOf: membership.partOf }
  const [top] = record.source?.files ?? []
  if (record.source === undefined || top === undefined) throw new AppError('copy-not-found', `Image ${record.image} in domain ${area.id} was being created, not copied. Send createImage again, or deleteImage.`)
  const preview = { bytesTotal: record.virtualSize, bytesDone: total(record.done) }
  if (await target.standing(record) === 'ended') {
    const dropped = await lookForDropped(job, record)
    return {
      preview: { outcome: 'finish', ...preview, ...(dropped !== undefined && { dropped }) },
      proceed: async () => ({ how: 'finish', area, target, lease, record: await takeOver(job, area, record, {}), dropped })
    }
  }
  const source = await takeAgain(job, record.source, record.layer !== undefined)
  // what is only touched is compared at the end
  const { changed } = await sourceChanges(source, record.source.files)
  if (changed.length > 0) {
    throw new AppError('source-changed', `The source ${top.image} has changed since the copy began (${changed.join(', ')}): what is done of ${record.image} is of no use. Delete it and copy again.`, { members: { differs: changed } })
  }
  if (job.request.what === 'copy') assertNothingLost(job.request, source)
  await probeSource(source)
  if (record.replaces !== undefined) await target.assertReplaceable?.({ isPreview: job.isPreview === true })
  const work = await measureRest(job, held, record, source)
  return {
    preview: {
      outcome: 'continue',
      ...preview,
      bytesToMove: work.bytesToMove,
      ...(source.dropped !== undefined && { dropped: source.dropped }),
      ...sourceWarnings(source)
    },
    proceed: async () => await proceed(job, held, record, { source, work })
  }
}

/** Opens the source that the record names. @param alone its own file is copied as it is. */
async function takeAgain (job: CopyJob, { domain, files: [top] }: NonNullable<CopyRecord['source']>, alone: boolean): Promise<Source> {
  if (top === undefined) throw new Error('a source has a file')
  const address = { domain, image: top.image, volume: top.volume }
  return alone ? await takeSource(job, address, { alone }) : await takeSource(job, { ...address, format: top.format })
}

/** What a copy that is complete has dropped, as long as its source is there to tell: the copy needs it no more. */
async function lookForDropped (job: CopyJob, { source: recorded, layer }: CopyRecord): Promise<Dropped | undefined> {
  if (recorded === undefined || layer !== undefined) return undefined
  try {
    const source = await takeAgain(job, recorded, false)
    const { changed } = await sourceChanges(source, recorded.files)
    return changed.length === 0 ? source.dropped : undefined
  } catch {
    // gone, in use, or changed: that is no reason not to finish the copy
    return undefined
  }
}

/** Finds out what is left to move, and claims the space for it. Nobody else should have it, so it is not refused. */
async function measureRest (job: AcceptJob, { area, target }: Held, record: CopyRecord, source: Source): Promise<Work> {
  const { format, allocation, virtualSize, clusterSize, done } = record
  const work = await surveySource(source, { format, allocation, virtualSize, clusterSize }, { done, signal: job.signal })
  const { directory, name } = await target.fileOf(record)
  const part = await look(directory, name)
  const taken = part === undefined ? 0 : Number(part.blocks) * 512
  await claimSpace(job, area, { named: record, bytesNeeded: Math.max(work.bytesNeeded - taken, 0), force: true })
  return work
}

async function proceed (job: CopyJob, { area, target, lease }: Held, record: CopyRecord, { source, work }: { source: Source, work: Work }): Promise<Single> {
  // what a run before found out about its own end says nothing about the end of this one
  const { verified: _, target: ___, ...unverified } = record
  const isToBeTaken = record.phase === 'creating' && record.given === true
  const taken = isToBeTaken ? await takeOver(job, area, unverified, {}) : unverified
  if (isToBeTaken) await anew(record, async () => { await target.place(taken) })
  const part = record.phase !== 'creating' || isToBeTaken ? await reopenPart(area, await target.fileOf(record), record, record.inode) : undefined
  if (part !== undefined) {
    await lease.secure()
    return { how: 'run', accepted: { area, target, lease, source, work, part, record: await takeOver(job, area, taken, { phase: 'copying' }) } }
  }
  await target.discard(record)
  // a fresh part has a fresh name: on a shared file system the old name may still be seen
  const { inode: __, ...partless } = taken
  const fresh = await takeOver(job, area, partless, { phase: 'creating', copyId: randomUUID(), done: [], begun: [], bytesMoved: 0 })
  return await anew(record, async () => {
    const made = await createPart(area, fresh)
    await target.place(fresh, made)
    await lease.secure()
    const copying: CopyRecord = { ...fresh, phase: 'copying', inode: made.inode }
    await writeRecord(area.copies, copying)
    return { how: 'run', accepted: { area, target, lease, source, work, part: made, record: copying } }
  })
}

/** Does a step that leaves the image interrupted when it fails, and says so. */
async function anew<T> (record: CopyRecord, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (cause) {
    const { code, message } = explain(cause, `The copy to ${wordsOf(record)} could not be begun anew`)
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
