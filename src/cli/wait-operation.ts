import { setTimeout as sleep } from 'node:timers/promises'
import { ProblemError } from '../client/errors.ts'
import type { Operation, Task } from '../client/types.ts'
import { openDisplay } from './display.ts'
import { exit } from './exit.ts'
import { Patience } from './follow.ts'
import { paint } from './output.ts'
import type { Session } from './session.ts'
import { formatBytes } from './units.ts'

const lookEveryMs = 2000

/** Follows an operation to its end, with the bar of a copy. */
export async function waitForOperation (session: Session, operationId: string): Promise<void> {
  const display = openDisplay(session.stderr)
  const patience = new Patience(session.patienceMs, text => { display.aside(() => { session.say(text) }) })
  session.onInterrupt(() => {
    display.pause()
    session.say(`Gluster goes on: ${session.hint('operations')}`)
    session.exit(exit.interrupted)
  })
  let shown: string | undefined
  try {
    while (true) {
      const operation = await patience.insist(async () => await look(session, operationId))
      if (operation !== undefined && !isUnderWay(operation)) return report(session, operation)
      if (operation !== undefined) {
        const task = asTask(operation)
        shown = task.id
        display.show(task)
      }
      await sleep(lookEveryMs)
    }
  } finally {
    if (shown !== undefined) display.remove(shown)
    display.pause()
    session.onInterrupt(undefined)
  }
}

/** Undefined when Gluster does not answer at the moment. */
async function look (session: Session, operationId: string): Promise<Operation | undefined> {
  try {
    return await session.client.operation(operationId)
  } catch (error) {
    if (error instanceof ProblemError && (error.status === 502 || error.status === 504)) return undefined
    throw error
  }
}

function isUnderWay ({ state, problem, nodes, ended }: Operation): boolean {
  if (ended !== undefined) return false
  // hosts that do not tell may still be at it, and so may those of which nothing is known at the moment
  return state === 'running' || state === 'not-started' || state === 'unknown' || (problem !== undefined && nodes.length === 0)
}

/** What a bar needs to know; what is left is estimated. */
function asTask ({ operationId, kind, volume, totals, rate, estimate, nodes, observedAt }: Operation): Task {
  const stalledSince = nodes.length > 0 && nodes.every(node => node.stalledSince !== undefined) ? nodes[0]?.stalledSince : undefined
  return {
    id: kind,
    runId: operationId,
    kind: `gluster.${kind}`,
    spec: { kind: 'gluster.stopVolumeRebalance', volume },
    specDigest: '',
    state: 'running',
    cancelable: false,
    createdAt: observedAt,
    revision: 0,
    tick: 0,
    instance: '',
    progress: {
      phase: 'copying',
      ...(estimate !== undefined && { bytesTotal: totals.bytes + estimate.bytesLeft, bytesDone: totals.bytes }),
      ...(rate !== undefined && { bytesPerSecond: rate.bytesPerSecond }),
      ...(estimate?.secondsLeft !== undefined && { etaSeconds: estimate.secondsLeft }),
      ...(stalledSince !== undefined && { stalledSince })
    }
  }
}

function report (session: Session, operation: Operation): void {
  const { json, out } = session
  const { kind, volume, state, totals, complete, missing, rejected = [], joinedLater = [] } = operation
  const isDone = state === 'completed' && complete && totals.failures === 0
  if (!isDone) session.status = exit.failed
  if (json) return out.record(operation)
  const silent = [...missing, ...rejected]
  const words = [
    `${kind} of ${volume} ${state}: ${totals.files} files, ${formatBytes(totals.bytes)} moved`,
    totals.failures > 0 && `${totals.failures} failures`,
    totals.skipped > 0 && `${totals.skipped} skipped`,
    silent.length > 0 && `these hosts do not tell: ${silent.join(', ')}`,
    joinedLater.length > 0 && `these hosts joined later: ${joinedLater.join(', ')}`
  ].filter(part => part !== false).join(', ')
  out.line(isDone ? paint('green', 'done') : paint('red', state), `  ${words}`)
}
