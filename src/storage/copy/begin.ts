import { randomUUID } from 'node:crypto'
import { AppError } from '../../errors.ts'
import type { Area } from '../area.ts'
import type { Identity } from '../identity.ts'
import type { ImageLease } from '../image-lease.ts'
import type { CopyTarget, TargetPlan } from '../layout/copy-target.ts'
import type { CopyRequest } from '../protocol.ts'
import { keyOf, removeRecord, wordsOf, writeRecord, type CopyRecord } from '../record.ts'
import type { AcceptJob, Membership, SingleDecision } from './accept.ts'
import { assertNothingLost } from './dropped.ts'
import { clonePart, createPart, reopenPart, type Part } from './part.ts'
import { probeSource, recordedFiles, sourceWarnings, type Source } from './source.ts'
import { assertFits, claimSpace, type SpaceNumbers } from './space.ts'
import { surveySource, type Work } from './survey.ts'
import { takeSource } from './take-source.ts'
import { outlastYouth } from './youth.ts'

/** What was found of the target. */
interface Target {
  area: Area
  lease: ImageLease
  /** What an earlier command has left: done with, or an interrupted createImage. */
  record: CopyRecord | undefined
  target: CopyTarget
  /** The image that is to be replaced. It stays good until the copy is complete. */
  replaces?: Identity
  membership?: Membership | undefined
}

interface Made {
  part: Part
  record: CopyRecord
  cloned: boolean
}

/** Begins a new copy, if nothing stands against it. */
export async function begin (job: AcceptJob, request: CopyRequest, { area, target: place, lease, record, replaces, membership }: Target): Promise<SingleDecision> {
  const { target } = request
  const source = await takeSource(job, request.source, { alone: membership !== undefined })
  assertNothingLost(request, source)
  const plan = place.plan(source, target)
  const mayClone = job.settings.clone && area.clones && isClonable(source, plan, target.clusterSize)
  const measure = async () => await measureCopy(job, { area, source, plan, request })
  // a clone takes no space; whether the file system can make one shows when it is tried
  const measuring = mayClone ? undefined : measure()
  measuring?.catch(() => { /* the refusal of the probe comes first */ })
  await probeSource(source)
  job.accepting()
  if (replaces !== undefined) await place.assertReplaceable?.({ isPreview: job.isPreview === true })
  const { virtualSize } = plan
  let measured = await measuring
  job.accepting()
  // a qcow2 file grows with what is written into it
  const fileBytes = plan.format === 'raw' ? virtualSize : measured?.bytesNeeded ?? source.dataBytes
  await assertFits(area, target.image, fileBytes, { isPreview: job.isPreview === true })
  const now = new Date().toISOString()
  const fresh: CopyRecord = {
    version: 1,
    copyId: randomUUID(),
    phase: 'creating',
    domain: area.id,
    image: target.image,
    ...(target.volume !== undefined && { volume: target.volume }),
    ...plan,
    ...(target.clusterSize !== undefined && { clusterSize: target.clusterSize }),
    verify: request.verify,
    source: { domain: request.source.domain, virtualSize: source.virtualSize, files: recordedFiles(source) },
    ...(replaces !== undefined && { replaces }),
    ...(job.bandwidth !== null && { bandwidth: job.bandwidth }),
    windowBytes: 0,
    done: [],
    begun: plan.begun ?? [],
    bytesMoved: 0,
    epoch: 1,
    host: job.host,
    taskId: job.taskId,
    createdAt: now,
    checkpointAt: now
  }
  const creating = (): CopyRecord => ({ ...fresh, ...(membership?.chain !== undefined && { chain: membership.chain }), ...(membership?.partOf !== undefined && { partOf: membership.partOf }) })
  let begun: CopyRecord | undefined
  return {
    preview: {
      outcome: replaces === undefined ? 'copy' : 'replace',
      bytesTotal: virtualSize,
      ...measured?.numbers,
      ...(measured !== undefined && { bytesToMove: measured.bytesToMove }),
      ...(source.dropped !== undefined && { dropped: source.dropped }),
      ...sourceWarnings(source)
    },
    announce: async () => {
      begun = creating()
      await writeRecord(area.copies, begun)
    },
    undo: async () => {
      if (begun === undefined) return
      await place.retract(begun)
      await removeRecord(area.copies, keyOf(begun))
    },
    proceed: async () => {
      // an interrupted createImage or deleteImage of the same name: the new command is for the whole image
      if (record !== undefined && record.phase !== 'done') await place.discard(record)
      begun = creating()
      const made = await make({ area, target: place, lease, record }, begun, async () => {
        const cloned = mayClone ? await clone(area, creating(), source) : undefined
        if (cloned === undefined) measured ??= await measure()
        return cloned
      })
      begun = made.record
      return { how: 'run', accepted: { area, target: place, lease, source, work: measured ?? nothingToMove, ...made } }
    }
  }
}

/** What a clone has to do. */
const nothingToMove: Work = { bytesToMove: 0, bytesNeeded: 0 }

/** Finds out what the copy has to move, and claims the space of its target. */
async function measureCopy (
  job: AcceptJob, { area, source, plan, request }: { area: Area, source: Source, plan: TargetPlan, request: CopyRequest }
): Promise<Work & { numbers: SpaceNumbers }> {
  const { target, ignoreSpace } = request
  const work = await surveySource(source, { ...plan, clusterSize: target.clusterSize }, { signal: job.signal })
  const numbers = await claimSpace(job, area, { named: target, bytesNeeded: work.bytesNeeded, force: ignoreSpace })
  return { ...work, ignoreSpace, numbers }
}

/** Whether a copy of the bytes of the file is a copy of the image, as it was asked for. */
function isClonable ({ files, dropped, virtualSize: size }: Source, { format, allocation, virtualSize, given }: TargetPlan, clusterSize: number | undefined): boolean {
  // the size of a raw image can be changed afterwards; that of a qcow2 image stands in it
  if (given === true || (format === 'qcow2' && size !== virtualSize)) return false
  // internal snapshots and bitmaps are no part of what a guest sees: no copy has them, wherever its files are
  return files.length === 1 && files[0].format === format && clusterSize === undefined && allocation === 'sparse' && dropped === undefined
}

/**
 * Lets the file system share the source's data. Nothing is durable before the record says so: a crash in between leaves
 * a part that is removed, and copied anew.
 */
async function clone (area: Area, creating: CopyRecord, source: Source): Promise<Pick<Made, 'part' | 'record'> | undefined> {
  if (creating.source === undefined) return undefined
  await outlastYouth(area, keyOf(creating), source)
  const part = await clonePart(area, creating.copyId, source.files[0])
  if (part === undefined) return undefined
  const all: Array<[number, number]> = creating.virtualSize === 0 ? [] : [[0, creating.virtualSize]]
  return { part, record: { ...creating, source: { ...creating.source, files: recordedFiles(source) }, done: all, begun: all } }
}

/** Makes record and part; takes both back when that fails, so that a refusal leaves nothing behind. */
async function make ({ area, target, lease, record }: Pick<Target, 'area' | 'target' | 'lease' | 'record'>, creating: CopyRecord, clone: () => Promise<Pick<Made, 'part' | 'record'> | undefined>): Promise<Made> {
  let begun = creating
  try {
    await writeRecord(area.copies, creating)
    const cloned = await clone()
    const made = cloned ?? (creating.given === true ? undefined : { part: await createPart(area, creating), record: creating })
    begun = made === undefined ? creating : { ...made.record, inode: made.part.inode }
    await target.place(made?.record ?? creating, made?.part)
    await lease.secure()
    const part = made?.part ?? await reopenPart(area, await target.fileOf(creating), creating, creating.inode)
    if (part === undefined) throw new AppError('image-invalid', `The volume ${wordsOf(creating)} in domain ${area.id} cannot be written: qemu-img finds it damaged.`)
    const copying: CopyRecord = { ...begun, phase: 'copying' }
    await writeRecord(area.copies, copying)
    return { part, record: copying, cloned: cloned !== undefined }
  } catch (error) {
    try {
      await target.retract(begun)
      await takeBack(area, creating, record)
    } catch (cause) {
      throw new AppError('storage-failed', `The copy to ${creating.image} could not be begun, nor could what was begun be removed. The fixes of domain ${area.id} show what is left.`, { cause, changed: true })
    }
    throw error
  }
}

/** Removes a record that led to nothing. What stood in its place of a complete copy, which may still be asked for, stands there again if there is space for it. */
async function takeBack (area: Area, creating: CopyRecord, before: CopyRecord | undefined): Promise<void> {
  if (before?.phase === 'done' && await writeRecord(area.copies, before).then(() => true, () => false)) return
  await removeRecord(area.copies, keyOf(creating))
}
