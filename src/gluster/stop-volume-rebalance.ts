import type { StopOperationResult, StopVolumeRebalance } from '../api/gluster-kinds.ts'
import { findVolume, stop, type Target } from './commands.ts'
import { conclude, finalNumbers, lookAtCluster, verb, type Verb, type Workshop } from './verb.ts'

/** `gluster.stopVolumeRebalance`: the answer to the stop is the last that Gluster tells of the operation, so it is the result. */
export function stopVolumeRebalance (workshop: Workshop): Verb<StopVolumeRebalance, StopOperationResult> {
  return verb(workshop, async ({ volume }, context) => {
    const target: Target = { type: 'rebalance', volume, bricks: [] }
    const info = await findVolume(workshop.gluster, volume, context.signal)
    const cluster = await lookAtCluster(workshop)
    const report = await stop(workshop.gluster, target, context.signal)
    context.accepted()
    const ended = conclude(workshop, cluster, info, target, report)
    workshop.changed(ended)
    return { operationId: report.operationId, final: finalNumbers(ended) }
  })
}
