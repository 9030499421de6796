import type { Command } from 'commander'
import type { Operation, OperationList } from '../client/types.ts'
import type { Session } from './session.ts'
import { formatBytes, formatSeconds } from './units.ts'

export function addOperations (program: Command, session: Session): void {
  program.command('operations')
    .description('tell about the rebalances and brick removals of the Gluster cluster')
    .addHelpText('after', `
Examples:
  vdsm-tasks operations
  vdsm-tasks operations --json | jq -r '.items[] | select(.state == "running") | .volume'`)
    .action(async () => { tellOperations(session, await session.client.operations()) })
}

/** Tells of the operations of one volume, of some kinds. */
export async function tellOf (session: Session, volume: string, kinds: ReadonlyArray<Operation['kind']>): Promise<void> {
  const { items, unknown, problem, observedAt } = await session.client.operations()
  tellOperations(session, {
    items: items.filter(operation => operation.volume === volume && kinds.includes(operation.kind)),
    ...(unknown !== undefined && { unknown: unknown.filter(one => one.volume === volume) }),
    ...(problem !== undefined && { problem }),
    observedAt
  })
}

function tellOperations (session: Session, list: OperationList): void {
  const { json, out } = session
  if (json) return out.document(list)
  if (list.problem !== undefined) session.say(list.problem.detail)
  for (const { volume, detail } of list.unknown ?? []) session.say(`${volume}: ${detail}`)
  if (list.items.length === 0) return session.say('There are no such operations.')
  out.table(['volume', 'operation', 'state', 'moved', 'failures', 'rate', 'left', 'id'], list.items.map(({ volume, kind, state, totals, rate, estimate, operationId }) => [
    volume,
    kind,
    state,
    `${totals.files} files, ${formatBytes(totals.bytes)}`,
    String(totals.failures),
    rate === undefined ? '-' : `${formatBytes(rate.bytesPerSecond)}/s`,
    estimate?.secondsLeft === undefined ? '-' : formatSeconds(estimate.secondsLeft),
    operationId
  ]))
  for (const { volume, nodes, missing, problem } of list.items) {
    if (problem !== undefined) session.say(`${volume}: ${problem.detail}`)
    if (missing.length > 0) session.say(`${volume}: these hosts do not tell: ${missing.join(', ')}`)
    for (const { host, state, failures } of nodes) if (state === 'failed' || failures > 0) session.say(`${volume}: ${host} ${state}, ${failures} failures`)
  }
}
