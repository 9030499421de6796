import type { CommitRemoveBrick, CommitRemoveBrickResult } from '../api/gluster-kinds.ts'
import type { Operation } from '../api/operation.ts'
import { AppError } from '../errors.ts'
import type { VolumeInfo, VolumeTask } from './answers.ts'
import { findRemoval, missingBricks, noRemoval, type Removal } from './brick-removal.ts'
import { refuseUnlessEmpty, refuseUnlessHealed } from './bricks-empty.ts'
import { findBricks, findVolume, readStatus, removeBricks, setOption } from './commands.ts'
import { leaveEnd } from './ended.ts'
import { fillsOf } from './estimate.ts'
import { digestOf, formatMark, optionOf, readMarks } from './marks.ts'
import { findMovedFiles, optionWasSet } from './moved-files.ts'
import { conclude, finalNumbers, lookAtCluster, verb, type Verb, type VerbContext, type Workshop } from './verb.ts'

/**
 * `gluster.commitRemoveBrick`: takes the bricks out of the volume.
 *
 * Gluster itself commits a removal that skipped files or has moved none, and they are lost to the volume then: here the
 * bricks are looked into, and it takes `force` to lose what is on them.
 */
export function commitRemoveBrick (workshop: Workshop): Verb<CommitRemoveBrick, CommitRemoveBrickResult> {
  return verb(workshop, async (spec, context) => {
    const { volume, bricks, replica, force = false } = spec
    const info = await findVolume(workshop.gluster, volume, context.signal)
    if (missingBricks(info, bricks).length === bricks.length) return alreadyDone(info, spec, context)
    const { task } = await findRemoval(workshop, volume, bricks, context.signal)
    const replicasReduced = replica !== undefined && replica < info.replicaCount
    if (task === undefined && !force && !replicasReduced) throw noRemoval(volume, bricks)
    const last = task === undefined ? undefined : await lastNumbers(workshop, info, task)
    if (!force) refuseUnread(info)
    if (!force) await refuseUnsafe({ workshop, info, bricks, context, last })
    if (task !== undefined) await sign(workshop, spec, context, task.operationId)
    // whoever started it, and whatever became of that in between: no look at the bricks shows which names are found
    const optionIsNew = task !== undefined && await findMovedFiles(workshop, info, context.signal)
    // Gluster has no commit for fewer replicas: nothing is moved then, and it wants `force`
    await removeBricks(workshop.gluster, volume, replica, bricks, force || task === undefined ? 'force' : 'commit', context.signal)
    context.accepted()
    if (last !== undefined) await leaveEnd(workshop, last, 'committed', context)
    workshop.changed(last)
    return {
      ...(last !== undefined && { operationId: last.operationId, final: finalNumbers(last) }),
      ...(optionIsNew && { warnings: [optionWasSet] })
    }
  })
}

interface Commit {
  workshop: Workshop
  info: VolumeInfo
  bricks: readonly string[]
  context: VerbContext
  /** Of the removal that is committed; there is none when replicas are reduced. */
  last: Operation | undefined
}

// How many copies there are, and on which bricks, is what all that follows is worked out from.
function refuseUnread ({ volume, problem }: VolumeInfo): void {
  if (problem === undefined) return
  throw new AppError('gluster-unexpected', `No brick is taken out of ${volume}, because what Gluster tells of the volume cannot be understood: ${problem}`, { members: { excerpt: problem } })
}

// What leaves with fewer replicas still holds its files, rightly: there it is the bricks that stay which must have them all.
async function refuseUnsafe ({ workshop, info, bricks, context, last }: Commit): Promise<void> {
  const replicasReduced = last === undefined
  if (!replicasReduced) {
    await refuseUnfinished(workshop, { info }, last)
    await refuseUnlessEmpty(workshop, info, bricks, context)
  }
  await refuseUnlessHealed(workshop, info, bricks, { replicasReduced, signal: context.signal })
}

// Bricks that are gone and bricks that never were look the same; the mark tells them apart.
function alreadyDone (info: VolumeInfo, { volume, bricks }: CommitRemoveBrick, context: VerbContext): CommitRemoveBrickResult {
  const { started, claimed } = readMarks(info, 'remove-brick')
  const mark = [claimed, started].find(left => left?.what === digestOf(bricks))
  if (mark === undefined) throw new AppError('brick-not-found', `The Gluster volume ${volume} has no brick ${bricks.join(', ')}, and its last brick removal was another.`)
  context.accepted()
  return { operationId: mark.operationId, alreadyDone: true }
}

async function lastNumbers (workshop: Workshop, info: VolumeInfo, { operationId, bricks }: VolumeTask): Promise<Operation> {
  const target = { type: 'remove-brick', volume: info.volume, bricks } as const
  const report = await readStatus(workshop.gluster, target)
  if (report.operationId !== undefined && report.operationId !== operationId) throw new AppError('operation-conflict', `The brick removal on ${info.volume} was replaced by another while it was looked at. Look at the operations and try again.`)
  return conclude(workshop, await lookAtCluster(workshop), info, target, { ...report, operationId })
}

async function refuseUnfinished (workshop: Workshop, { info }: Removal, last: Operation): Promise<void> {
  const { operationId, state, totals, complete, missing, problem } = last
  const left = totals.failures + totals.skipped
  if (state === 'completed' && complete && left === 0) return
  const atMost = await filesAtMost(workshop, info, last.bricks ?? [])
  const reason = missing.length > 0
    ? `${missing.join(', ')} did not tell how far it is`
    : problem !== undefined ? problem.detail : state === 'completed' ? `${left} files could not be moved` : `it is ${state}`
  const rest = atMost === undefined ? '' : ` The bricks hold at most ${atMost} files.`
  throw new AppError('remove-brick-unfinished', `The removal of ${(last.bricks ?? []).join(', ')} from ${info.volume} cannot be committed: ${reason}. ${totals.files} files were moved, ${totals.failures} failed, ${totals.skipped} were skipped.${rest} Wait for its end; when nothing runs any more, send startRemoveBrick with "restart": true, which moves what is left. With force the bricks are taken out all the same, and what is left on them is lost.`, {
    members: { operationId, filesMoved: totals.files, filesFailed: totals.failures, filesSkipped: totals.skipped, ...(atMost !== undefined && { filesLeftAtMost: atMost }) }
  })
}

/** How many files the bricks can still hold, by the inodes in use: directories and Gluster's own files count as well. */
async function filesAtMost ({ gluster }: Workshop, info: VolumeInfo, bricks: readonly string[]): Promise<number | undefined> {
  try {
    const details = await findBricks(gluster, info.volume)
    // undefined when bricks share a file system: then the inodes in use say nothing
    if (fillsOf(info, { bricks: new Map([[info.volume, details]]), at: '' }) === undefined) return undefined
    const counts = info.bricks.filter(({ brick, arbiter }) => !arbiter && bricks.includes(brick))
      .map(({ hostUuid, path }) => details.find(detail => detail.hostUuid === hostUuid && detail.path === path)?.space?.inodesUsed)
    return counts.includes(undefined) ? undefined : counts.reduce<number>((all, count) => all + (count ?? 0), 0)
  } catch (error) {
    // the refusal stands without it
    if (error instanceof AppError) return undefined
    throw error
  }
}

// Before the commit: a caller whose reply was lost finds the bricks gone, and by the mark that it was this removal.
async function sign ({ gluster, hostId }: Workshop, { volume, bricks }: CommitRemoveBrick, { id, signal }: VerbContext, operationId: string): Promise<void> {
  const info = await findVolume(gluster, volume, signal)
  const { started, claimed } = readMarks(info, 'remove-brick')
  if ([started, claimed].some(left => left?.operationId === operationId && left.what === digestOf(bricks))) return
  const mark = { taskId: id, hostId, at: new Date().toISOString(), what: digestOf(bricks), operationId }
  await setOption(gluster, volume, optionOf('remove-brick', 'claimed'), formatMark(mark), signal)
}
