import { Option, type Command } from 'commander'
import type { Operation, OperationList, TaskSpec } from '../client/types.ts'
import { UsageError } from './exit.ts'
import type { Session } from './session.ts'
import { submit, type SubmitOptions } from './submit.ts'
import { formatBytes, formatSeconds } from './units.ts'
import { waitForOperation } from './wait-operation.ts'

export function addOperations (program: Command, session: Session): void {
  program.command('operations')
    .description('tell about the rebalances and brick removals of the Gluster cluster')
    .addHelpText('after', `
Examples:
  vdsm-tasks operations
  vdsm-tasks operations --json | jq -r '.items[] | select(.state == "running") | .volume'`)
    .action(async () => { tellOperations(session, await session.client.operations()) })
}

/** The options of whatever starts an operation. */
export interface StartOptions extends SubmitOptions {
  restart?: boolean
  throttle?: NonNullable<Operation['throttle']>
  wait?: boolean
}

export function withStartOptions (command: Command): Command {
  return command
    .option('--restart', 'of start: stop one in which nothing runs any more, and start it again')
    .addOption(new Option('--throttle <throttle>', 'of start and throttle: how much of the hosts it takes').choices(['lazy', 'normal', 'aggressive']))
    .option('--wait', 'of start: follow it to its end')
}

/** Starts an operation, and follows it to its end if that is wanted. */
export async function startOperation (session: Session, spec: TaskSpec, { restart, throttle, wait = false, ...task }: StartOptions): Promise<void> {
  const options = { ...(restart !== undefined && { restart }), ...(throttle !== undefined && { throttle }) }
  const { result } = await submit(session, { ...spec, ...options } as TaskSpec, task, { resend: true })
  if (wait && result !== undefined && 'operationId' in result && result.operationId !== undefined) await waitForOperation(session, result.operationId)
}

/** Changes how hard the operation of a volume works. */
export async function throttleOperation (session: Session, volume: string, kinds: ReadonlyArray<Operation['kind']>, throttle: StartOptions['throttle']): Promise<void> {
  if (throttle === undefined) throw new UsageError('Say how much of the hosts it takes: --throttle lazy, normal or aggressive.')
  const { items } = await session.client.operations({ volume: [volume] })
  const operation = items.find(({ kind }) => kinds.includes(kind))
  if (operation === undefined) throw new UsageError(`There is no such operation on ${volume}.`)
  const changed = await session.client.tuneOperation(operation.operationId, { throttle })
  if (session.json) session.out.record(changed)
  else session.out.line(`${operation.kind} of ${volume}  ${throttle}`)
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
  for (const { volume, nodes, missing, rejected, joinedLater, problem } of list.items) {
    if (problem !== undefined) session.say(`${volume}: ${problem.detail}`)
    if (missing.length > 0) session.say(`${volume}: these hosts do not tell: ${missing.join(', ')}`)
    if (rejected !== undefined) session.say(`${volume}: the cluster has rejected these hosts: ${rejected.join(', ')}`)
    if (joinedLater !== undefined) session.say(`${volume}: these hosts joined later and take no part: ${joinedLater.join(', ')}`)
    for (const { host, restarted, stalledSince } of nodes) {
      if (stalledSince !== undefined) session.say(`${volume}: ${host} has moved nothing since ${stalledSince}`)
      if (restarted === true) session.say(`${volume}: ${host} has begun again`)
    }
    for (const { host, state, failures } of nodes) if (state === 'failed' || failures > 0) session.say(`${volume}: ${host} ${state}, ${failures} failures`)
  }
}
