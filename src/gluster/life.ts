import type { NodeState, OperationState } from '../api/operation.ts'
import { AppError } from '../errors.ts'
import type { VolumeInfo, VolumeTask } from './answers.ts'
import { readStatus } from './commands.ts'
import { nodeState, stateOf } from './observe.ts'
import { pause } from './pause.ts'
import type { Workshop } from './verb.ts'

/** Whether an operation that Gluster knows still does something. */
export interface Life {
  runs: boolean
  state: OperationState
  /** Why nothing runs, although Gluster says that it is in progress. */
  stalledSince?: string
}

// Between Gluster's word that an operation is registered and its first move.
const startingMs = 5000
const pauseMs = 500

/** Looks whether any host is at an operation, or about to be. */
export async function whetherItRuns (workshop: Workshop, info: VolumeInfo, task: VolumeTask, signal: AbortSignal): Promise<Life> {
  const end = performance.now() + startingMs
  while (true) {
    const { nodes } = await readStatus(workshop.gluster, { ...task, volume: info.volume })
    const states = nodes.map(({ status }) => nodeState(status))
    const stalledSince = workshop.stalledSince?.(task.operationId)
    if (!isStarting(states) || performance.now() > end) {
      return {
        runs: states.includes('running') && stalledSince === undefined,
        state: stateOf(states, true),
        ...(stalledSince !== undefined && { stalledSince })
      }
    }
    await pause(pauseMs, signal)
  }
}

/** Says that an operation is not claimed, because it would never get anywhere. */
export function refuseEnded (volume: string, { operationId, type }: Pick<VolumeTask, 'operationId' | 'type'>, { state, stalledSince }: Life): never {
  const what = type === 'rebalance' ? 'rebalance' : 'brick removal'
  const how = stalledSince === undefined ? `it is ${state}` : `no host has moved anything since ${stalledSince}`
  const commit = type === 'remove-brick' ? 'Commit it, or send' : 'Send'
  throw new AppError('operation-ended', `On ${volume} there is a ${what} in which nothing runs (${operationId}): ${how}. It was not claimed. ${commit} the start with "restart": true to stop it and to start again.`, {
    members: { operationId, state, ...(stalledSince !== undefined && { stalledSince }) }
  })
}

function isStarting (states: readonly NodeState[]): boolean {
  return states.includes('not-started') && !states.includes('running')
}
