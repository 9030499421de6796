import type { StopOperationResult, StopRemoveBrick } from '../api/gluster-kinds.ts'
import { findRemoval, noRemoval } from './brick-removal.ts'
import { stop, type Target } from './commands.ts'
import { conclude, finalNumbers, lookAtCluster, verb, type Verb, type Workshop } from './verb.ts'

/** `gluster.stopRemoveBrick`: the bricks stay in the volume, the files that were moved stay where they are now. */
export function stopRemoveBrick (workshop: Workshop): Verb<StopRemoveBrick, StopOperationResult> {
  return verb(workshop, async ({ volume, bricks }, context) => {
    const target: Target = { type: 'remove-brick', volume, bricks }
    const { info, task } = await findRemoval(workshop, volume, bricks, context.signal)
    if (task === undefined) throw noRemoval(volume, bricks)
    const cluster = await lookAtCluster(workshop)
    const report = await stop(workshop.gluster, target, context.signal)
    context.accepted()
    const ended = conclude(workshop, cluster, info, target, report)
    workshop.changed(ended)
    return { operationId: report.operationId, final: finalNumbers(ended) }
  })
}
