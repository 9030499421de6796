import type { StartOperationResult, StartRemoveBrick } from '../api/gluster-kinds.ts'
import { AppError } from '../errors.ts'
import type { VolumeInfo, VolumeTask } from './answers.ts'
import { comingToItsEnd, tellBelievers, triesAfterMs } from './believers.ts'
import { findRemoval, missingBricks } from './brick-removal.ts'
import { earlierRun, recentAt } from './claim.ts'
import { findTasks, findVolume, setOption, start, stop } from './commands.ts'
import { leaveClaim } from './leave-claim.ts'
import { refuseEnded, whetherItRuns } from './life.ts'
import { digestOf, formatMark, optionOf, readMarks } from './marks.ts'
import { findMovedFiles } from './moved-files.ts'
import { pause } from './pause.ts'
import { shardWarning, throttleWarning } from './throttle.ts'
import { verb, type Verb, type VerbContext, type Workshop } from './verb.ts'

interface Request {
  workshop: Workshop
  spec: StartRemoveBrick
  context: VerbContext
}

/** `gluster.startRemoveBrick`: succeeds as soon as Gluster has registered the removal, or with the one that runs. */
export function startRemoveBrick (workshop: Workshop): Verb<StartRemoveBrick, StartOperationResult> {
  return verb(workshop, async (spec, context) => {
    const request = { workshop, spec, context }
    const info = await findVolume(workshop.gluster, spec.volume, context.signal)
    const throttled = info.state === 'started' ? await throttleWarning(workshop.gluster, spec.volume, spec.throttle, context.signal) : []
    const there = await earlier(request) ?? await running(request)
    const started = there === undefined ? await begin(request) : undefined
    const operationId = there ?? started ?? (await current(request)).task?.operationId
    if (operationId === undefined) throw new AppError('gluster-busy', `The removal of ${spec.bricks.join(', ')} that another host has started on ${spec.volume} is gone again. Look at the operations and try again.`)
    context.accepted({ operationId })
    const marked = started === undefined ? await claim(request, operationId) : await sign(request, started)
    workshop.changed()
    const warnings = [...throttled, ...shardWarning(info)]
    return { operationId, ...(started === undefined && { alreadyStarted: true }), ...(!marked && { marked }), ...(warnings.length > 0 && { warnings }) }
  })
}

/** The operation that this very task has started before, whatever has become of it since. */
async function earlier ({ workshop, spec, context }: Request): Promise<string | undefined> {
  const { volume, bricks } = spec
  if (context.reused === true) return undefined
  const info = await findVolume(workshop.gluster, volume, context.signal)
  const operationId = earlierRun(readMarks(info, 'remove-brick'), { taskId: context.id, what: digestOf(bricks) }, recentAt(Date.now(), workshop.retentionSeconds))
  if (operationId === undefined || missingBricks(info, bricks).length === bricks.length) return operationId
  // it was stopped since when Gluster knows it no more: then the bricks are to be emptied again
  return (await current({ workshop, spec, context })).task?.operationId === operationId ? operationId : undefined
}

/**
 * The removal of these bricks in which something runs, if there is one. Unlike a rebalance, a removal is there until it
 * is committed or stopped: one that has ended is refused, or stopped to make room for the next.
 */
async function running (request: Request): Promise<string | undefined> {
  const { workshop, spec: { volume, restart = false }, context } = request
  const { info, task } = await current(request)
  if (task === undefined) return undefined
  const target = { type: 'remove-brick', volume, bricks: task.bricks } as const
  const life = await whetherItRuns(workshop, info, task, context.signal)
  if (life.runs) return task.operationId
  if (!restart) refuseEnded(volume, task, life)
  await findMovedFiles(workshop, info, context.signal)
  await stop(workshop.gluster, target, context.signal)
  return undefined
}

async function current ({ workshop, spec: { volume, bricks }, context }: Request): Promise<{ info: VolumeInfo, task?: VolumeTask }> {
  return await findRemoval(workshop, volume, bricks, context.signal)
}

/** The id of the new operation; undefined when another host was first. */
async function begin ({ workshop, spec: { volume, bricks, replica }, context: { signal } }: Request): Promise<string | undefined> {
  const { gluster } = workshop
  const words = [...(replica === undefined ? [] : ['replica', String(replica)]), ...bricks, 'start']
  const pauses = [...workshop.triesAfterMs ?? triesAfterMs]
  while (true) {
    try {
      return await start(gluster, { type: 'remove-brick', volume, bricks: [] }, words, signal)
    } catch (error) {
      if (!(error instanceof AppError)) throw error
      if (error.code === 'remove-brick-uncommitted') return undefined
      // Gluster also says that a rebalance is in progress for some seconds after the last operation was stopped, until
      // the file that was on its way has arrived; it tells of none then.
      if (error.code !== 'operation-conflict' || (await findTasks(gluster, volume, signal)).length > 0) throw error
      const next = pauses.shift()
      if (next === undefined) {
        const who = await tellBelievers(workshop, { volume, type: 'rebalance' }, error, signal)
        throw new AppError('gluster-busy', `${error.message} ${who ?? comingToItsEnd}`)
      }
      await pause(next, signal)
    }
  }
}

async function claim ({ workshop, spec: { volume, bricks }, context }: Request, operationId: string): Promise<boolean> {
  const marks = readMarks(await findVolume(workshop.gluster, volume, context.signal), 'remove-brick')
  return await leaveClaim({ workshop, context, volume, type: 'remove-brick', what: digestOf(bricks), marks, operationId })
}

// The removal is there, whether or not its name tag is: that must not fail the task.
async function sign ({ workshop: { gluster, hostId }, spec: { volume, bricks }, context: { id, log } }: Request, operationId: string): Promise<boolean> {
  try {
    const mark = { taskId: id, hostId, at: new Date().toISOString(), what: digestOf(bricks), operationId }
    await setOption(gluster, volume, optionOf('remove-brick', 'started'), formatMark(mark))
    return true
  } catch (error) {
    log.warn({ err: error, operationId }, 'the brick removal could not be marked with its task id')
    return false
  }
}
