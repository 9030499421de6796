import { AppError } from '../errors.ts'
import type { VolumeInfo, VolumeTask } from './answers.ts'
import { findTasks, findVolume } from './commands.ts'
import type { Workshop } from './verb.ts'

/** A volume, and the removal of exactly these bricks if Gluster knows of one. */
export interface Removal {
  info: VolumeInfo
  task?: VolumeTask
}

/**
 * Looks for the removal of these bricks, in any order.
 *
 * Gluster answers a status with a part of the bricks, or with others, as if they were all: the bricks are compared
 * here. Throws `brick-not-found` when one is not in the volume, and `remove-brick-uncommitted` when others are being removed.
 */
export async function findRemoval ({ gluster }: Workshop, volume: string, bricks: readonly string[], signal: AbortSignal): Promise<Removal> {
  const info = await findVolume(gluster, volume, signal)
  const unknown = missingBricks(info, bricks)
  if (unknown.length > 0) throw new AppError('brick-not-found', `The Gluster volume ${volume} has no brick ${unknown.join(', ')}. Its bricks are ${info.bricks.map(({ brick }) => brick).join(', ')}.`)
  const task = (await findTasks(gluster, volume, signal)).find(({ type }) => type === 'remove-brick')
  if (task === undefined) return { info }
  if (isSameSet(task.bricks, bricks)) return { info, task }
  throw new AppError('remove-brick-uncommitted', `The removal of ${task.bricks.join(', ')} from the volume ${volume} is neither committed nor stopped (${task.operationId}). Do that first.`, { members: { operationId: task.operationId } })
}

/** Those of the bricks that the volume does not have. */
export function missingBricks (info: VolumeInfo, bricks: readonly string[]): string[] {
  return bricks.filter(name => !info.bricks.some(({ brick }) => brick === name))
}

/** The refusal when nothing is there to be stopped or committed. */
export function noRemoval (volume: string, bricks: readonly string[]): AppError {
  return new AppError('operation-not-running', `No removal of ${bricks.join(', ')} from the volume ${volume} has been started, or it was stopped.`)
}

function isSameSet (a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every(item => b.includes(item))
}
