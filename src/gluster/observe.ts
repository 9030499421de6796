import type { NodeState, Operation, OperationNode, OperationState, OperationTotals } from '../api/operation.ts'
import type { NodeReport, PoolHost, StatusReport, VolumeInfo, VolumeTask } from './answers.ts'
import { readMarks, wasAway, type StartedMark } from './marks.ts'

/** What one host's glusterd takes for the current operation of a volume. */
export interface View {
  hostUuid: string
  task?: VolumeTask
}

export interface Observation {
  volume: VolumeInfo
  task: VolumeTask
  /** What this host's glusterd says of it; absent when it knows another operation, or could not tell. */
  report?: StatusReport
  problem?: { code: string, detail: string }
  /** Of every host that was asked, this one included. */
  views: readonly View[]
  /** Hosts that are connected but not accepted as peers. */
  rejected: ReadonlySet<string>
  nameOf: (hostUuid: string) => string
  observedAt: string
}

/**
 * The operation as the hosts tell it.
 *
 * A host whose glusterd is down is left out of Gluster's answer without a word, so the hosts that should be there are
 * worked out from the bricks. One that has joined the volume later takes no part, and is silent as well: a mark must
 * prove that. A host that tells of another operation answers with the numbers of that one: they do not count.
 */
export function describeOperation (observation: Observation): Omit<Operation, 'rate' | 'estimate'> {
  const { volume, task, report, views, rejected, nameOf, observedAt } = observation
  const others = views.filter(view => view.task?.operationId !== task.operationId)
  const elsewhere = new Set(others.map(view => view.hostUuid))
  const reports = (report?.nodes ?? []).filter(node => !elsewhere.has(node.hostUuid))
  const told = new Set(reports.map(node => node.hostUuid))
  const refused = partakers(volume, task).filter(host => rejected.has(host))
  const silent = partakers(volume, task).filter(host => !told.has(host) && !rejected.has(host))
  const { started, claimed } = readMarks(volume, task.type)
  const mine = started?.operationId === task.operationId ? started : undefined
  const claim = claimed?.operationId === task.operationId ? claimed : undefined
  const marks = [mine, claim].filter(mark => mark !== undefined)
  const joined = task.type === 'remove-brick' || report === undefined ? [] : silent.filter(host => marks.some(mark => wasAway(mark, host)))
  const missing = silent.filter(host => !joined.includes(host))
  const allTold = report !== undefined && report.unsure !== true && missing.length === 0 && refused.length === 0
  const problem = observation.problem ?? (report?.problem === undefined ? undefined : { code: 'gluster-unexpected', detail: `Something that Gluster told cannot be understood: ${report.problem}` })
  return {
    operationId: task.operationId,
    kind: kindOf(task, report, mine),
    volume: volume.volume,
    ...(task.type === 'remove-brick' && { bricks: task.bricks }),
    ...(mine !== undefined && { task: { taskId: mine.taskId, hostId: mine.hostId }, startedAt: mine.at }),
    ...(claim !== undefined && { claimedBy: { taskId: claim.taskId, hostId: claim.hostId, claimedAt: claim.at } }),
    state: stateOf(reports.map(node => nodeState(node.status)), allTold),
    nodes: reports.map(node => describeNode(node, nameOf)),
    totals: sum(reports),
    complete: allTold && joined.length === 0,
    missing: missing.map(nameOf).sort(),
    ...(joined.length > 0 && { joinedLater: joined.map(nameOf).sort() }),
    ...(refused.length > 0 && { rejected: refused.map(nameOf).sort() }),
    ...(others.length > 0 && { disagreement: others.map(({ hostUuid, task: other }) => ({ host: nameOf(hostUuid), ...(other !== undefined && { operationId: other.operationId }) })) }),
    ...(problem !== undefined && { problem }),
    observedAt
  }
}

/** The state of the whole, from its hosts: never from Gluster's aggregate, which is wrong for fix-layout. */
export function stateOf (nodes: readonly NodeState[], complete: boolean): OperationState {
  for (const state of ['running', 'failed', 'stopped'] as const) {
    if (nodes.includes(state)) return state
  }
  // a host that is silent may still be at it
  if (!complete || nodes.length === 0 || nodes.includes('unknown')) return 'unknown'
  return nodes.includes('completed') ? 'completed' : 'not-started'
}

/** Gluster's numbers for the state of a host (`gf_defrag_status` in its protocol): 5 to 8 are those of a fix-layout. */
export function nodeState (status: number): NodeState {
  return (['not-started', 'running', 'stopped', 'completed', 'failed', 'running', 'stopped', 'completed', 'failed'] as const)[status] ?? 'unknown'
}

/** Whether a host's part is one of a fix-layout. */
export function isFixLayout ({ status }: Pick<NodeReport, 'status'>): boolean {
  return status >= 5 && status <= 8
}

/** A name for every host of the cluster: that of its bricks, since each glusterd calls itself `localhost`. */
export function namesOf (volumes: readonly VolumeInfo[], hosts: readonly PoolHost[], ownName: string): (hostUuid: string) => string {
  const names = new Map(hosts.map(({ hostUuid, host }) => [hostUuid, host === 'localhost' ? ownName : host]))
  for (const { hostUuid, host } of volumes.flatMap(volume => volume.bricks)) names.set(hostUuid, host)
  return hostUuid => names.get(hostUuid) ?? hostUuid
}

/** The hosts that should be at it. Of a brick removal Gluster reports only those that hold the bricks. */
export function partakers ({ bricks }: VolumeInfo, task: VolumeTask): string[] {
  const involved = task.type === 'rebalance' ? bricks : bricks.filter(({ brick }) => task.bricks.includes(brick))
  return [...new Set(involved.map(brick => brick.hostUuid))]
}

export function sum (nodes: readonly NodeReport[]): OperationTotals {
  const total = (member: keyof NodeReport & keyof OperationTotals): number => nodes.reduce((all, node) => all + node[member], 0)
  return {
    files: total('files'),
    bytes: total('bytes'),
    scanned: total('scanned'),
    failures: total('failures'),
    skipped: total('skipped'),
    runtimeSeconds: Math.max(0, ...nodes.map(node => node.runtimeSeconds))
  }
}

// To a host that holds no brick of the volume Gluster tells a fix-layout as a rebalance while it runs; the mark knows.
function kindOf (task: VolumeTask, report: StatusReport | undefined, mark: StartedMark | undefined): Operation['kind'] {
  if (task.type === 'remove-brick') return 'remove-brick'
  return mark?.what === 'fix-layout' || report?.nodes.some(isFixLayout) === true ? 'fix-layout' : 'rebalance'
}

function describeNode ({ hostUuid, status, ...numbers }: NodeReport, nameOf: (hostUuid: string) => string): OperationNode {
  return { host: nameOf(hostUuid), hostUuid, state: nodeState(status), ...numbers }
}
