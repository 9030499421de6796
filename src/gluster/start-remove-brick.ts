import type { StartOperationResult, StartRemoveBrick } from '../api/gluster-kinds.ts'
import { AppError } from '../errors.ts'
import { findRemoval, missingBricks } from './brick-removal.ts'
import { earlierRun, recentAt } from './claim.ts'
import { findTasks, findVolume, setUserOption, start } from './commands.ts'
import { digestOf, formatMark, optionOf, readMarks } from './marks.ts'
import { pause } from './pause.ts'
import { verb, type Verb, type VerbContext, type Workshop } from './verb.ts'

const pauseMs = 500

/** `gluster.startRemoveBrick`: succeeds as soon as Gluster has registered the removal, or with the one that is there. */
export function startRemoveBrick (workshop: Workshop): Verb<StartRemoveBrick, StartOperationResult> {
  return verb(workshop, async (spec, context) => {
    const there = await committedBefore(workshop, spec, context) ?? await current(workshop, spec, context)
    const started = there === undefined ? await begin(workshop, spec, context) : undefined
    const operationId = there ?? started ?? await current(workshop, spec, context)
    if (operationId === undefined) throw new AppError('gluster-busy', `The removal of ${spec.bricks.join(', ')} that another host has started on ${spec.volume} is gone again. Look at the operations and try again.`)
    context.accepted()
    if (started !== undefined) await sign(workshop, spec, context, started)
    workshop.changed()
    return { operationId, ...(started === undefined && { alreadyStarted: true }) }
  })
}

/** The operation of this very task, when its bricks have been taken out since. */
async function committedBefore ({ gluster, retentionSeconds }: Workshop, { volume, bricks }: StartRemoveBrick, { id, signal, reused = false }: VerbContext): Promise<string | undefined> {
  const info = await findVolume(gluster, volume, signal)
  const gone = missingBricks(info, bricks).length === bricks.length
  if (!gone || reused) return undefined
  return earlierRun(readMarks(info, 'remove-brick'), { taskId: id, what: digestOf(bricks) }, recentAt(Date.now(), retentionSeconds))
}

// Unlike a rebalance, a removal is there until it is committed or stopped: whoever asks for the same one gets it.
async function current (workshop: Workshop, { volume, bricks }: StartRemoveBrick, { signal }: VerbContext): Promise<string | undefined> {
  return (await findRemoval(workshop, volume, bricks, signal)).task?.operationId
}

/** The id of the new operation; undefined when another host was first. */
async function begin ({ gluster }: Workshop, { volume, bricks, replica }: StartRemoveBrick, { signal }: VerbContext): Promise<string | undefined> {
  const words = [...(replica === undefined ? [] : ['replica', String(replica)]), ...bricks, 'start']
  const end = performance.now() + gluster.patienceMs
  while (true) {
    try {
      return await start(gluster, { type: 'remove-brick', volume, bricks: [] }, words, signal)
    } catch (error) {
      if (!(error instanceof AppError)) throw error
      if (error.code === 'remove-brick-uncommitted') return undefined
      // Gluster also says that a rebalance is in progress for some seconds after the last operation was stopped, until
      // the file that was on its way has arrived; it tells of none then.
      if (error.code !== 'operation-conflict' || performance.now() > end || (await findTasks(gluster, volume, signal)).length > 0) throw error
    }
    await pause(pauseMs, signal)
  }
}

// The removal is there, whether or not its name tag is: that must not fail the task.
async function sign ({ gluster, hostId }: Workshop, { volume, bricks }: StartRemoveBrick, { id, log }: VerbContext, operationId: string): Promise<void> {
  try {
    const mark = { taskId: id, hostId, at: new Date().toISOString(), what: digestOf(bricks), operationId }
    await setUserOption(gluster, volume, optionOf('remove-brick', 'started'), formatMark(mark))
  } catch (error) {
    log.warn({ err: error, operationId }, 'the brick removal could not be marked with its task id')
  }
}
