import type { Dropped } from '../../api/kinds.ts'
import { AppError } from '../../errors.ts'
import { openArea, type Area } from '../area.ts'
import { isSameContent, type Identity } from '../identity.ts'
import { copyTarget, type CopyTarget } from '../layout/copy-target.ts'
import { lookForImageLease, takeImageLease, type ImageLease } from '../image-lease.ts'
import { outlastOthers } from '../patience.ts'
import type { CopyJob, CopyPreview, CopyRequest } from '../protocol.ts'
import { hostOf } from '../record-progress.ts'
import { keyOf, readRecord, wordsOf, type CopyRecord, type KeptChain, type Layer, type Named, type PartOf } from '../record.ts'
import { begin } from './begin.ts'
import type { AcceptedChain } from './chain.ts'
import { assertNothingLost } from './dropped.ts'
import type { Part } from './part.ts'
import { resume } from './resume.ts'
import { sourceChanges, type Source } from './source.ts'
import type { ClaimSpace } from './space.ts'
import type { Work } from './survey.ts'
import { placeOf, takeSource } from './take-source.ts'

/** A copy that is accepted: target and record are durable. */
export interface Accepted {
  area: Area
  target: CopyTarget
  lease: ImageLease
  source: Source
  part: Part
  record: CopyRecord
  /** The part shares the source's data: nothing is left to copy. */
  cloned?: boolean
  work: Work
}

/** A job in its worker, which can ask the agent, and be stopped. */
export interface AcceptJob extends CopyJob {
  claim: ClaimSpace
  signal: AbortSignal
  /** Only a look: nothing is changed, no lease is held, and nobody who means it in earnest is refused because of it. */
  isPreview?: boolean
  /** A step is done: the storage answers. */
  accepting: () => void
}

/** What the accept step has led to: a copy to be run, one whose last steps are to be done, or one that is complete. */
export type Acceptance =
  | Single
  | { how: 'chain', chain: AcceptedChain }

/** What the accept step of one copy has led to. A finished copy whose source was touched since is to be compared with it. */
export type Single =
  | { how: 'run', accepted: Accepted }
  | { how: 'finish', area: Area, target: CopyTarget, lease: ImageLease, record: CopyRecord, dropped?: Dropped | undefined }
  | { how: 'done', lease: ImageLease, record: CopyRecord, toCompare?: Source, dropped?: Dropped | undefined }

/** Everything was looked at and nothing stands against the copy. Nothing was changed so far. */
export interface Decision<A = Acceptance> {
  preview: CopyPreview
  /** Makes it durable. */
  proceed: () => Promise<A>
}

/** The decision about one copy. */
export interface SingleDecision extends Decision<Single> {
  /** Makes only the record, before the copies that belong to this one are accepted. Absent where there is one. */
  announce?: () => Promise<void>
  /** Takes back what was announced or accepted, if it was begun by that. */
  undo?: () => Promise<void>
}

/** How a copy of a volume is part of that of a chain. What is said of the chain may come to be known until it is accepted. */
export interface Membership {
  layer: Layer
  chain?: KeptChain
  partOf?: PartOf
}

/**
 * The first half of the accept step: takes the leases and looks at everything under them. Throws the refusal. The
 * second half, `proceed`, makes target and record durable.
 */
export async function decide (job: AcceptJob, membership?: Membership): Promise<SingleDecision> {
  const { request } = job
  const named = request.what === 'copy' ? request.target : request
  const area = await openArea(placeOf(job, named.domain))
  const target = copyTarget(area, named, membership?.layer)
  const lease = await takeTarget(area, named, job)
  // whoever held the lease before may have written a moment ago
  await outlastOthers(area, lease)
  const record = await readRecord(area.copies, area.id, keyOf(named))
  job.accepting()

  if (request.what === 'mend') return await resume(job, { area, target, lease, membership }, await mendable(area, named, target, record))
  if (record !== undefined && record.phase !== 'done' && record.source !== undefined) return await resume(job, { area, target, lease, membership }, continuable(area, request, record))
  const existing = await target.find(request.target)
  if (existing === undefined) {
    if (record?.phase === 'deleting') throw unfinishedDelete(area, named)
    return await begin(job, request, { area, target, lease, record, membership })
  }
  const { identity: found } = existing
  const { differing, toCompare, dropped } = record?.phase === 'done' && found !== undefined ? await doneDifferences(job, request, record, found, membership?.partOf !== undefined) : {}
  if (record !== undefined && differing?.length === 0) {
    assertNothingLost(request, { dropped })
    return {
      preview: { outcome: 'already-done', bytesTotal: record.virtualSize, ...(dropped !== undefined && { dropped }) },
      proceed: async () => ({ how: 'done', lease, record, dropped, ...(toCompare !== undefined && { toCompare }) })
    }
  }
  if (existing.offered) return await begin(job, request, { area, target, lease, record, membership })
  if (existing.replaceable && request.onExisting === 'replace' && found !== undefined) return await begin(job, request, { area, target, lease, record, membership, replaces: found })
  throw record !== undefined && differing !== undefined && request.target.generation === undefined ? targetExists(area, record, differing, 'a complete copy') : existing.refusal
}

/** The lease of the target, or the refusal that says who has it. */
async function takeTarget (area: Area, named: Named, { isPreview = false }: Pick<AcceptJob, 'isPreview'>): Promise<ImageLease> {
  const recorded = async () => await readRecord(area.copies, area.id, keyOf(named)).catch(() => undefined)
  // to take that of an unfinished copy alone, for however short, would make it look as if it was being copied
  const isOpen = async () => ![undefined, 'done'].includes((await recorded())?.phase)
  const lease = isPreview
    ? await lookForImageLease(area, named, await isOpen() ? 'shared' : 'exclusive')
    : await takeImageLease(area, named, 'exclusive')
  if (lease !== undefined) return lease
  const holder = await recorded()
  throw new AppError('resource-busy', `Image ${wordsOf(named)} in domain ${area.id} is in use${holder === undefined || holder.phase === 'done' ? '' : ` by host ${holder.host.id}, task ${holder.taskId ?? 'unknown'}`}.`, {
    members: holder === undefined || holder.phase === 'done' ? {} : { host: hostOf(holder) }
  })
}

async function mendable (area: Area, named: Named, target: CopyTarget, record: CopyRecord | undefined): Promise<CopyRecord> {
  const image = wordsOf(named)
  const exists = async () => await target.find({ ...named, domain: area.id, allocation: 'sparse' }) !== undefined
  if (record === undefined || (record.phase === 'done' && !await exists())) {
    if (record === undefined && await exists()) throw new AppError('already-complete', `Image ${image} in domain ${area.id} is no interrupted copy: there is nothing to mend.`)
    throw new AppError('copy-not-found', `There is no interrupted copy ${image} in domain ${area.id}.`)
  }
  if (record.phase === 'done') throw new AppError('already-complete', `The copy ${image} in domain ${area.id} was completed at ${record.completedAt ?? 'an unknown time'}.`)
  if (record.phase === 'deleting') throw unfinishedDelete(area, named)
  return record
}

/** The same command again, onto its own unfinished copy, continues it. Any other command is refused. */
function continuable (area: Area, request: CopyRequest, record: CopyRecord): CopyRecord {
  if (record.phase === 'deleting') throw unfinishedDelete(area, record)
  // whether to verify is still open: the new command decides
  const differing = requestDifferences(request, { ...record, verify: request.verify })
  if (record.replaces !== undefined && request.onExisting !== 'replace') differing.push('onExisting')
  if (differing.length > 0) throw targetExists(area, record, differing, 'an unfinished copy')
  return { ...record, verify: request.verify }
}

/**
 * A finished copy is confirmed only for the same command on the same, unchanged source, and an untouched target.
 * Returns the source, too, if that can only be told by a comparison.
 *
 * @param isMember it is of a volume of a chain: a command for that may ask for a comparison that the one before did not.
 */
async function doneDifferences (job: CopyJob, request: CopyRequest, record: CopyRecord, found: Identity, isMember: boolean): Promise<{ differing: string[], toCompare?: Source, dropped?: Dropped | undefined }> {
  const differing = requestDifferences(isMember ? { ...request, verify: record.verify } : request, record)
  if (record.target === undefined || !isSameContent(record.target, found)) differing.push('the target was written after the copy')
  if (differing.length > 0) return { differing }
  try {
    const source = await takeSource(job, request.source, { alone: record.layer !== undefined })
    const { changed, touched } = await sourceChanges(source, record.source?.files ?? [])
    const isOpen = touched.length > 0 || (request.verify && record.verified !== true)
    return { differing: changed, dropped: source.dropped, ...(isOpen && { toCompare: source }) }
  } catch (error) {
    if (error instanceof AppError && error.code === 'image-not-found') return { differing: ['the source is gone'] }
    throw error
  }
}

function requestDifferences ({ source, target, chain, verify }: CopyRequest, record: CopyRecord): string[] {
  const [top] = record.source?.files ?? []
  return [
    ...(record.source?.domain === source.domain && top?.image === source.image && (source.volume === undefined || top.volume === source.volume) ? [] : ['source']),
    ...(source.format === undefined || top?.format === source.format ? [] : ['source format']),
    ...((record.layer === undefined ? 'flat' : 'keep') === chain ? [] : ['chain']),
    ...(target.format === undefined || record.format === target.format ? [] : ['format']),
    ...((record.given === true ? record.generation : undefined) === target.generation ? [] : ['generation']),
    ...(record.given === true || record.layer !== undefined || record.allocation === target.allocation ? [] : ['allocation']),
    ...(record.clusterSize === target.clusterSize ? [] : ['cluster size']),
    ...(record.verify === verify ? [] : ['verify'])
  ]
}

function targetExists (area: Area, record: CopyRecord, differs: string[], what: string): AppError {
  const { taskId, completedAt } = record
  const old = { ...(taskId !== undefined && { copyTaskId: taskId }), ...(completedAt !== undefined && { completedAt }) }
  return new AppError('target-exists', `${wordsOf(record)} in domain ${area.id} is ${what} made by another command or from another state of the source (${differs.join(', ')}). Delete it first, or choose another name.`, { members: { ...old, differs } })
}

function unfinishedDelete (area: Area, named: Named): AppError {
  return new AppError('image-interrupted', `The deletion of ${wordsOf(named)} in domain ${area.id} was interrupted. Send deleteImage again to finish it.`)
}
