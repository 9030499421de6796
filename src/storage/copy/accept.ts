import { randomUUID } from 'node:crypto'
import { statfs } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { AppError } from '../../errors.ts'
import { entry, look } from '../../system/directory.ts'
import { openArea, type Area, type DomainPlace } from '../area.ts'
import { explain } from '../failure.ts'
import { differences, identityOf } from '../identity.ts'
import { isLeased, takeLease, type Lease } from '../lease.ts'
import type { CopyJob, CopyRequest } from '../protocol.ts'
import { readRecord, removeRecord, writeRecord, type CopyRecord } from '../record.ts'
import { createPart, removePart, reopenPart, type Part } from './part.ts'
import { openSource, probeSource, recordedFiles, sourceChanges, type Source } from './source.ts'

/** A copy that is accepted: target and record are durable. */
export interface Accepted {
  area: Area
  lease: Lease
  source: Source
  part: Part
  record: CopyRecord
}

/** What the accept step found: a copy to be run, one whose last steps are to be done, or one that is complete. */
export type Acceptance =
  | { how: 'run', accepted: Accepted }
  | { how: 'finish', area: Area, lease: Lease, record: CopyRecord }
  | { how: 'done', record: CopyRecord }

/** Readers of a shared file system may be shown a record up to a second old; twice that is waited after a take-over. */
const takeOverDelayMs = 2000

/**
 * The accept step: takes the leases, looks at everything under them, and makes target and record durable.
 * Refusals leave the storage as it was.
 */
export async function accept (job: CopyJob): Promise<Acceptance> {
  const { request } = job
  const target = request.what === 'copy' ? request.target : request
  const area = await openArea(placeOf(job, target.domain))
  const lease = await takeTarget(area, target.image)
  // whoever held the lease before may have written a moment ago
  if (lease.existed && !area.local) await sleep(takeOverDelayMs)
  const record = await readRecord(area.copies, area.id, target.image)
  const existing = await look(area.root, target.image)

  if (request.what === 'mend') return await mend(job, area, lease, record, existing !== undefined)
  if (record !== undefined && record.phase !== 'done' && record.source !== undefined) return await continueSame(job, request, area, lease, record)
  if (existing === undefined) {
    if (record !== undefined && record.phase === 'deleting') throw unfinishedDelete(area, target.image)
    // an interrupted createImage of the same name: the new command is for the whole image
    if (record !== undefined && record.phase === 'creating') await removePart(area, record.copyId)
    return await begin(job, request, area, lease)
  }
  if (record?.phase !== 'done') throw new AppError('target-exists', `There is an image ${target.image} in domain ${area.id}. Delete it first, or choose another name.`)
  return await confirmDone(job, request, area, record, identityOf(existing))
}

/** The lease of the target, or the refusal that says who has it. */
async function takeTarget (area: Area, image: string): Promise<Lease> {
  const lease = await takeLease(area.leases, image, 'exclusive')
  if (lease !== undefined) return lease
  const holder = await readRecord(area.copies, area.id, image).catch(() => undefined)
  throw new AppError('resource-busy', `Image ${image} in domain ${area.id} is in use${holder === undefined || holder.phase === 'done' ? '' : ` by host ${holder.host.id}, task ${holder.taskId ?? 'unknown'}`}.`, {
    members: holder === undefined || holder.phase === 'done' ? {} : { host: holder.host }
  })
}

/** Opens the source under a shared lease, so that nobody deletes or overwrites it meanwhile. */
async function takeSource (job: CopyJob, { domain, image, format }: CopyRequest['source']): Promise<Source> {
  const place = placeOf(job, domain)
  const area = await openArea(place)
  const record = await readRecord(area.copies, area.id, image)
  const isWhole = await look(area.root, image) !== undefined
  if (!isWhole && record !== undefined && record.phase !== 'done') {
    throw new AppError('image-interrupted', `Image ${image} in domain ${domain} is itself an unfinished copy${await isLeased(area.leases, image) ? ' that is still running' : '; mend it first'}.`)
  }
  // the lease stays open with the process, and so does the directory
  if (await takeLease(area.leases, image, 'shared') === undefined) throw new AppError('resource-busy', `The source ${image} in domain ${domain} is being written or deleted.`)
  return await openSource(area, place, image, format)
}

async function begin (job: CopyJob, request: CopyRequest, area: Area, lease: Lease): Promise<Acceptance> {
  const { target } = request
  const source = await takeSource(job, request.source)
  await probeSource(source)
  const virtualSize = target.format === 'raw' ? source.virtualSize : Math.ceil(source.virtualSize / 512) * 512
  await checkSpace(area, target.allocation === 'preallocated' ? virtualSize : Math.min(virtualSize, source.dataBytes))
  const now = new Date().toISOString()
  const creating: CopyRecord = {
    version: 1,
    copyId: randomUUID(),
    phase: 'creating',
    domain: area.id,
    image: target.image,
    format: target.format,
    allocation: target.allocation,
    virtualSize,
    verify: request.verify,
    source: { domain: request.source.domain, virtualSize: source.virtualSize, files: recordedFiles(source) },
    ...(job.bandwidth !== null && { bandwidth: job.bandwidth }),
    windowBytes: 0,
    done: [],
    begun: [],
    bytesMoved: 0,
    epoch: 1,
    host: job.host,
    taskId: job.taskId,
    createdAt: now,
    checkpointAt: now
  }
  return { how: 'run', accepted: { area, lease, source, ...await make(area, creating) } }
}

/** Makes record and part; takes both back when that fails, so that a refusal leaves nothing behind. */
async function make (area: Area, creating: CopyRecord): Promise<{ part: Part, record: CopyRecord }> {
  try {
    await writeRecord(area.copies, creating)
    const part = await createPart(area, creating)
    const record: CopyRecord = { ...creating, phase: 'copying', inode: part.inode }
    await writeRecord(area.copies, record)
    return { part, record }
  } catch (error) {
    try {
      await removePart(area, creating.copyId)
      await removeRecord(area.copies, creating.image)
    } catch (cause) {
      throw new AppError('storage-failed', `The copy to ${creating.image} could not be begun, nor could what was begun be removed. The fixes of domain ${area.id} show what is left.`, { cause, changed: true })
    }
    throw error
  }
}

async function mend (job: CopyJob, area: Area, lease: Lease, record: CopyRecord | undefined, exists: boolean): Promise<Acceptance> {
  const { image } = job.request.what === 'mend' ? job.request : job.request.target
  if (record === undefined || (record.phase === 'done' && !exists)) {
    if (exists) throw new AppError('already-complete', `Image ${image} in domain ${area.id} is no interrupted copy: there is nothing to mend.`)
    throw new AppError('copy-not-found', `There is no interrupted copy ${image} in domain ${area.id}.`)
  }
  if (record.phase === 'done') throw new AppError('already-complete', `The copy ${image} in domain ${area.id} was completed at ${record.completedAt ?? 'an unknown time'}.`)
  if (record.phase === 'deleting') throw unfinishedDelete(area, image)
  return await resume(job, area, lease, record)
}

/** The same command again, onto its own unfinished copy, continues it. Any other command is refused. */
async function continueSame (job: CopyJob, request: CopyRequest, area: Area, lease: Lease, record: CopyRecord): Promise<Acceptance> {
  if (record.phase === 'deleting') throw unfinishedDelete(area, record.image)
  // whether to verify is still open: the new command decides
  const differing = requestDifferences(request, { ...record, verify: request.verify })
  if (differing.length > 0) throw targetExists(area, record, differing, 'an unfinished copy')
  return await resume(job, area, lease, { ...record, verify: request.verify })
}

/**
 * Continues a copy: from what is done of it when the part is there, from the start when it is not. It writes to
 * nothing but the part that the record names, and never when the final image exists.
 */
async function resume (job: CopyJob, area: Area, lease: Lease, record: CopyRecord): Promise<Acceptance> {
  const [top] = record.source?.files ?? []
  if (record.source === undefined || top === undefined) throw new AppError('copy-not-found', `Image ${record.image} in domain ${area.id} was being created, not copied. Send createImage again, or deleteImage.`)
  const final = await look(area.root, record.image)
  if (final !== undefined) {
    // link() was the last step but one: the image is complete and has its name, only the record does not say so yet
    if (record.phase === 'finishing' && String(final.ino) === record.inode) return { how: 'finish', area, lease, record: await takeOver(job, area, record, {}) }
    throw new AppError('target-exists', `A file ${record.image} that is not this copy has appeared in domain ${area.id}. Rename it and mend again; deleteImage would remove the unfinished copy and leave that file.`)
  }
  const source = await takeSource(job, { domain: record.source.domain, image: top.image, format: top.format })
  const changes = await sourceChanges(source, record.source.files)
  if (changes.length > 0) {
    throw new AppError('source-changed', `The source ${top.image} has changed since the copy began (${changes.join(', ')}): what is done of ${record.image} is of no use. Delete it and copy again.`, { members: { differs: changes } })
  }
  await probeSource(source)
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
  const { bandwidth: _, ...rest } = record
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

/** A finished copy is confirmed only for the same command on the same, unchanged source, and an untouched target. */
async function confirmDone (job: CopyJob, request: CopyRequest, area: Area, record: CopyRecord, found: ReturnType<typeof identityOf>): Promise<Acceptance> {
  const differing = requestDifferences(request, record)
  if (record.target === undefined || targetDifferences(record.target, found).length > 0) differing.push('the target was written after the copy')
  if (differing.length === 0) differing.push(...await sourceDifferences(job, request, record))
  if (differing.length > 0) throw targetExists(area, record, differing, 'a complete copy')
  return { how: 'done', record }
}

async function sourceDifferences (job: CopyJob, request: CopyRequest, record: CopyRecord): Promise<string[]> {
  try {
    return await sourceChanges(await takeSource(job, request.source), record.source?.files ?? [])
  } catch (error) {
    if (error instanceof AppError && error.code === 'image-not-found') return ['the source is gone']
    throw error
  }
}

/** A hard link or a changed mode does not change what is in the image. */
function targetDifferences (was: NonNullable<CopyRecord['target']>, is: ReturnType<typeof identityOf>): string[] {
  return differences(was, is).filter(what => what !== 'changed')
}

function requestDifferences ({ source, target, verify }: CopyRequest, record: CopyRecord): string[] {
  const [top] = record.source?.files ?? []
  return [
    ...(record.source?.domain === source.domain && top?.image === source.image ? [] : ['source']),
    ...(top?.format === source.format ? [] : ['source format']),
    ...(record.format === target.format ? [] : ['format']),
    ...(record.allocation === target.allocation ? [] : ['allocation']),
    ...(record.verify === verify ? [] : ['verify'])
  ]
}

function targetExists (area: Area, record: CopyRecord, differs: string[], what: string): AppError {
  const { taskId, completedAt } = record
  const old = { ...(taskId !== undefined && { copyTaskId: taskId }), ...(completedAt !== undefined && { completedAt }) }
  return new AppError('target-exists', `${record.image} in domain ${area.id} is ${what} made by another command or from another state of the source (${differs.join(', ')}). Delete it first, or choose another name.`, { members: { ...old, differs } })
}

function unfinishedDelete (area: Area, image: string): AppError {
  return new AppError('image-interrupted', `The deletion of ${image} in domain ${area.id} was interrupted. Send deleteImage again to finish it.`)
}

async function checkSpace (area: Area, bytesNeeded: number): Promise<void> {
  const { bavail, bsize } = await statfs(entry(area.root, '.'))
  const free = bavail * bsize
  if (free < bytesNeeded) throw new AppError('no-space', `Domain ${area.id} has ${free} bytes free, the copy needs about ${bytesNeeded}.`, { members: { bytesFree: free, bytesNeeded } })
}

/** Where the domain of this id is. */
export function placeOf ({ places }: CopyJob, id: string): DomainPlace {
  const place = places.find(place => place.id === id)
  if (place === undefined) throw new AppError('domain-not-found', `This agent has no domain ${id}. GET /domains lists those it has.`)
  return place
}
