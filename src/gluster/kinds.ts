import { commitRemoveBrick } from './commit-remove-brick.ts'
import { replaceBrick, resetBrick } from './replace-brick.ts'
import { startRemoveBrick } from './start-remove-brick.ts'
import { startVolumeRebalance } from './start-volume-rebalance.ts'
import { stopRemoveBrick } from './stop-remove-brick.ts'
import { stopVolumeRebalance } from './stop-volume-rebalance.ts'
import { Turns } from './turns.ts'
import type { Workshop } from './verb.ts'

/** The kinds of task that Gluster does, by name. `retentionSeconds` is that of the tasks. */
export function createGlusterKinds (options: Omit<Workshop, 'turns'>) {
  const workshop: Workshop = { ...options, turns: new Turns() }
  return {
    'gluster.startVolumeRebalance': startVolumeRebalance(workshop),
    'gluster.stopVolumeRebalance': stopVolumeRebalance(workshop),
    'gluster.startRemoveBrick': startRemoveBrick(workshop),
    'gluster.stopRemoveBrick': stopRemoveBrick(workshop),
    'gluster.commitRemoveBrick': commitRemoveBrick(workshop),
    'gluster.replaceBrick': replaceBrick(workshop),
    'gluster.resetBrick': resetBrick(workshop)
  } as const
}
