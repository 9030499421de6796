import { readOperationId, readPool, readRebalance, readRemoveBrick, readTaskList, readTasks, readVolumeList, readVolumes, type PoolHost, type StatusReport, type TaskList, type VolumeInfo, type VolumeTask } from './answers.ts'
import { readDetail, readHeals, type BrickDetail, type BrickHeals } from './brick-answers.ts'
import type { AskOptions, Gluster, Question } from './cli.ts'
import { AppError } from '../errors.ts'

/** A rebalance, or the emptying of these bricks. */
export interface Target {
  type: 'rebalance' | 'remove-brick'
  volume: string
  bricks: readonly string[]
}

/** All volumes as this host's glusterd remembers them. */
export async function listVolumes (gluster: Gluster): Promise<VolumeInfo[]> {
  return (await readAllVolumes(gluster)).volumes
}

/** The same, and what could not be read. */
export function readAllVolumes (gluster: Gluster): Promise<{ volumes: VolumeInfo[], problem?: string }> {
  return gluster.ask(['volume', 'info'], readVolumeList, { lockFree: true })
}

/** One volume. Throws `volume-not-found`. */
export async function findVolume (gluster: Gluster, volume: string, signal?: AbortSignal): Promise<VolumeInfo> {
  const found = await gluster.ask(['volume', 'info', volume], readVolumes, { volume, lockFree: true, ...(signal !== undefined && { signal }) })
  const [info] = found
  if (info === undefined) throw new AppError('volume-not-found', `There is no Gluster volume ${volume}.`)
  return info
}

/** The hosts of the cluster. */
export function listHosts (gluster: Gluster, options: Pick<AskOptions, 'timeoutMs'> = {}): Promise<PoolHost[]> {
  return gluster.ask(['pool', 'list'], readPool, { lockFree: true, ...options })
}

/** What is running or waiting to be committed, as this host's glusterd tells it. A volume that is locked is left out, as if it were not there. */
export function listTasks (gluster: Gluster): Promise<TaskList> {
  return gluster.ask(['volume', 'status', 'all', 'tasks'], readTaskList)
}

/** The same, as another host's glusterd tells it: it lets itself be asked this from afar. Not worth a long wait. */
export function listTasksOf (gluster: Gluster, remoteHost: string): Promise<Map<string, VolumeTask[]>> {
  return gluster.ask(['volume', 'status', 'all', 'tasks'], readTasks, { remoteHost, timeoutMs: 5000, patienceMs: 2000 })
}

/** What is running or waiting to be committed on one volume. Throws `volume-not-started`. */
export async function findTasks (gluster: Gluster, volume: string, signal?: AbortSignal): Promise<VolumeTask[]> {
  const tasks = await gluster.ask(['volume', 'status', volume, 'tasks'], readTasks, { volume, ...(signal !== undefined && { signal }) })
  return tasks.get(volume) ?? []
}

/** The bricks of every started volume, with their space. */
export function listBricks (gluster: Gluster): Promise<Map<string, BrickDetail[]>> {
  return gluster.ask(['volume', 'status', 'all', 'detail'], readDetail)
}

/** The bricks of one volume, with their space. */
export async function findBricks (gluster: Gluster, volume: string): Promise<BrickDetail[]> {
  return (await gluster.ask(['volume', 'status', volume, 'detail'], readDetail, { volume })).get(volume) ?? []
}

// Gluster lists every entry to count it.
const healsMs = 120_000

/** What waits to be healed on a replicated or dispersed volume. Gluster refuses the question for others. */
export function readPendingHeals (gluster: Gluster, volume: string, signal: AbortSignal): Promise<BrickHeals[]> {
  return gluster.ask(['volume', 'heal', volume, 'info', 'summary'], readHeals, { volume, lockFree: true, timeoutMs: healsMs, signal })
}

/** The graph with which a client mounts the volume. It holds a password. */
export function readVolfile (gluster: Gluster, volume: string): Promise<string> {
  return gluster.print(['system::', 'getspec', volume])
}

/** How far it is. Throws `operation-not-running` when Gluster knows of none. */
export function readStatus (gluster: Gluster, target: Target): Promise<StatusReport> {
  return gluster.ask([...commandOf(target), 'status'], readerOf(target), { volume: target.volume })
}

/** Stops it and returns the final numbers, which Gluster forgets with this answer. */
export function stop (gluster: Gluster, target: Target, signal: AbortSignal): Promise<StatusReport> {
  return gluster.ask([...commandOf(target), 'stop'], readerOf(target), { volume: target.volume, changes: true, signal })
}

/** Starts it and returns the id that Gluster gave it; when the answer does not tell it, the one that has taken the place of `previous`. */
export async function start (gluster: Gluster, target: Target & { previous?: string }, words: readonly string[], signal: AbortSignal): Promise<string> {
  try {
    return await gluster.ask([...commandOf(target), ...words], readOperationId, { volume: target.volume, changes: true, signal })
  } catch (error) {
    if (!(error instanceof AppError) || error.code !== 'gluster-unexpected') throw error
    const tasks = await findTasks(gluster, target.volume, signal).catch(() => { throw error })
    const task = tasks.find(({ type }) => type === target.type)
    if (task === undefined || task.operationId === target.previous) throw error
    return task.operationId
  }
}

/** What is asked of Gluster about operations, in one go. */
export function questionsAbout (targets: readonly Target[]): Array<Question<StatusReport>> {
  return targets.map(target => ({ args: [...commandOf(target), 'status'], read: readerOf(target) }))
}

export const askForBricks: Question<Map<string, BrickDetail[]>> = { args: ['volume', 'status', 'all', 'detail'], read: readDetail }

/** Takes the bricks out of the volume: `commit` after their data has been moved, `force` whatever is still on them. */
export async function removeBricks (gluster: Gluster, volume: string, replica: number | undefined, bricks: readonly string[], word: 'commit' | 'force', signal: AbortSignal): Promise<void> {
  const reduced = replica === undefined ? [] : ['replica', String(replica)]
  await gluster.ask(['volume', 'remove-brick', volume, ...reduced, ...bricks, word], () => undefined, { volume, changes: true, signal })
}

/** Puts another brick in the place of one; Gluster knows this step only with force. */
export async function replaceBrick (gluster: Gluster, volume: string, brick: string, by: string, signal: AbortSignal): Promise<void> {
  await gluster.ask(['volume', 'replace-brick', volume, brick, by, 'commit', 'force'], () => undefined, { volume, changes: true, signal })
}

/** Takes a brick out of service, or back in at the same place. */
export async function resetBrick (gluster: Gluster, volume: string, brick: string, step: 'start' | 'commit', signal: AbortSignal): Promise<void> {
  const words = step === 'start' ? ['start'] : [brick, 'commit', 'force']
  await gluster.ask(['volume', 'reset-brick', volume, brick, ...words], () => undefined, { volume, changes: true, signal })
}

/** Tells the self-heal daemons to go on: with what is known to wait, or, with `full`, through all files. */
export async function startHeal (gluster: Gluster, volume: string, words: readonly string[], signal: AbortSignal): Promise<void> {
  await gluster.ask(['volume', 'heal', volume, ...words], () => undefined, { volume, changes: true, signal })
}

/** Sets an option of a volume. Every host of the cluster can read it, also those that Gluster leaves to its users (`user.`). */
export async function setOption (gluster: Gluster, volume: string, option: string, value: string, signal?: AbortSignal): Promise<void> {
  await gluster.ask(['volume', 'set', volume, option, value], () => undefined, { volume, changes: true, ...(signal !== undefined && { signal }) })
}

function commandOf ({ type, volume, bricks }: Target): string[] {
  return ['volume', type, volume, ...bricks]
}

function readerOf ({ type }: Target): typeof readRebalance {
  return type === 'rebalance' ? readRebalance : readRemoveBrick
}
