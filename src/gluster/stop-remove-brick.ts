import type { StopOperationResult, StopRemoveBrick } from '../api/gluster-kinds.ts'
import { findRemoval, noRemoval } from './brick-removal.ts'
import { end } from './end.ts'
import { shardWarning } from './throttle.ts'
import { finalNumbers, verb, type Verb, type Workshop } from './verb.ts'

/** `gluster.stopRemoveBrick`: the bricks stay in the volume, the files that were moved stay where they are now. */
export function stopRemoveBrick (workshop: Workshop): Verb<StopRemoveBrick, StopOperationResult> {
  return verb(workshop, async ({ volume, bricks }, context) => {
    const { info, task } = await findRemoval(workshop, volume, bricks, context.signal)
    if (task === undefined) throw noRemoval(volume, bricks)
    const ended = await end(workshop, info, { type: 'remove-brick', volume, bricks }, context)
    const warnings = shardWarning(info)
    return { operationId: ended.operationId, final: finalNumbers(ended), ...(warnings.length > 0 && { warnings }) }
  })
}
