import type { Operation } from '../api/operation.ts'
import { AppError } from '../errors.ts'
import type { StatusReport, VolumeInfo } from './answers.ts'
import { tellBelievers } from './believers.ts'
import { findTasks, readStatus, stop, type Target } from './commands.ts'
import { leaveEnd } from './ended.ts'
import { readMarks } from './marks.ts'
import { conclude, lookAtCluster, type VerbContext, type Workshop } from './verb.ts'

/** For an operation whose id Gluster tells nowhere. */
const noId = '00000000-0000-0000-0000-000000000000'

/**
 * Stops an operation and tells its last numbers. The answer to the stop is the last that Gluster tells of it: when that
 * cannot be understood, the operation has stopped all the same, and the numbers from before are the last.
 */
export async function end (workshop: Workshop, info: VolumeInfo, target: Target, context: VerbContext): Promise<Operation> {
  const { gluster } = workshop
  const { signal, accepted } = context
  const cluster = await lookAtCluster(workshop)
  const [task] = await known(findTasks(gluster, target.volume, signal), [])
  const before = await known(readStatus(gluster, target), undefined)
  const report = await stopAnyhow(workshop, target, before, signal)
  accepted()
  const operationId = report.operationId ?? before?.operationId ?? task?.operationId ?? readMarks(info, target.type).started?.operationId ?? noId
  const nodes = report.nodes.length === 0 ? before?.nodes ?? [] : report.nodes
  const ended = conclude(workshop, cluster, info, target, { ...report, nodes, operationId })
  await leaveEnd(workshop, ended, 'stopped', context)
  workshop.changed(ended)
  return ended
}

async function stopAnyhow (workshop: Workshop, target: Target, before: StatusReport | undefined, signal: AbortSignal): Promise<StatusReport> {
  const { gluster } = workshop
  try {
    return await stop(gluster, target, signal)
  } catch (error) {
    if (error instanceof AppError && error.code === 'operation-not-running') throw await explained(workshop, target, error, signal)
    if (!(error instanceof AppError) || error.code !== 'gluster-unexpected' || !await isGone(gluster, target)) throw error
    return { nodes: before?.nodes ?? [], ...(before?.operationId !== undefined && { operationId: before.operationId }), problem: error.message, unsure: true }
  }
}

// Whoever reads of it in the list of another host is to learn where it can be stopped.
async function explained (workshop: Workshop, target: Target, error: AppError, signal: AbortSignal): Promise<AppError> {
  const who = await tellBelievers(workshop, target, error, signal)
  return who === undefined ? error : new AppError(error.code, `${error.message} ${who}`, { cause: error })
}

async function isGone (gluster: Workshop['gluster'], target: Target): Promise<boolean> {
  try {
    await readStatus(gluster, target)
    return false
  } catch (error) {
    return error instanceof AppError && error.code === 'operation-not-running'
  }
}

/** What is only there to help must not keep anybody from stopping. */
async function known<T> (work: Promise<T>, instead: T): Promise<T> {
  try {
    return await work
  } catch (error) {
    if (error instanceof AppError) return instead
    throw error
  }
}
