import type { StopOperationResult, StopVolumeRebalance } from '../api/gluster-kinds.ts'
import { findVolume } from './commands.ts'
import { end } from './end.ts'
import { shardWarning } from './throttle.ts'
import { finalNumbers, verb, type Verb, type Workshop } from './verb.ts'

/** `gluster.stopVolumeRebalance`: the answer to the stop is the last that Gluster tells of the operation, so it is the result. */
export function stopVolumeRebalance (workshop: Workshop): Verb<StopVolumeRebalance, StopOperationResult> {
  return verb(workshop, async ({ volume }, context) => {
    const info = await findVolume(workshop.gluster, volume, context.signal)
    const ended = await end(workshop, info, { type: 'rebalance', volume, bricks: [] }, context)
    const warnings = shardWarning(info)
    return { operationId: ended.operationId, final: finalNumbers(ended), ...(warnings.length > 0 && { warnings }) }
  })
}
