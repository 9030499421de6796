import type { Operation, OperationState } from '../api/operation.ts'
import type { FinalNumbers } from '../api/gluster-kinds.ts'
import type { PoolHost, StatusReport, VolumeInfo } from './answers.ts'
import type { Gluster } from './cli.ts'
import { listHosts, listVolumes, type Target } from './commands.ts'
import { describeOperation, namesOf } from './observe.ts'
import type { Turns } from './turns.ts'

/** What a task body is given, as far as the verbs here use it. */
export interface VerbContext {
  /** The caller's task id. */
  id: string
  signal: AbortSignal
  /** One of many steps is done: the deadline for accepting begins again. */
  accepting (): void
  /** Registered; `operationId` is told with the task from then on. */
  accepted (of?: { operationId: string }): void
  /** The caller has deliberately used the id of a finished task again: what that one did does not count. */
  reused?: boolean
  log: { warn (fields: object, message: string): void }
}

/** A kind of task. */
export interface Verb<Spec, Result> {
  /** Most are registered within seconds or not at all; what they start is stopped by a verb of its own. */
  cancelable: boolean
  tunable: false
  acceptDeadlineMs: number
  check (spec: Spec): void
  uses (spec: Spec): { shared: readonly string[], exclusive: readonly string[] }
  run (spec: Spec, context: VerbContext): Promise<Result>
}

/** What the verbs work with. */
export interface Workshop {
  gluster: Gluster
  hostId: string
  /** For how long a task id stands for the operation that it started. */
  retentionSeconds: number
  /** Since when an operation that Gluster calls running has got no further; undefined while it does. */
  stalledSince? (operationId: string): string | undefined
  /** Milliseconds without an answer after which a brick that is looked into counts as hanging. Default 30,000. */
  brickSilenceMs?: number
  /** Pauses between tries while Gluster says that an operation is already started. Default: 30 s in all. */
  triesAfterMs?: readonly number[]
  /** Milliseconds within which a rebalance has looked at files, and can be told from a fix-layout. Default 10,000. */
  lookingMs?: number
  /** Verbs on one volume take turns on this host, so that none acts on what another is about to change. */
  turns: Turns
  /** Something was started or stopped: whoever asks for the operations must see it. */
  changed (ended?: Operation): void
}

/** GlusterFS 10 takes ten seconds to register a rebalance, and three simultaneous ones have been seen to take 28. */
const registrationMs = 90_000

/** A verb that runs alone on its volume, as far as this host is concerned. */
export function verb<Spec extends { volume: string }, Result> ({ turns }: Workshop, run: (spec: Spec, context: VerbContext) => Promise<Result>): Verb<Spec, Result> {
  return {
    cancelable: false,
    tunable: false,
    acceptDeadlineMs: registrationMs,
    check: () => {},
    // Shared: a start that comes while another is being registered is to claim that one, not to be told to come later.
    uses: ({ volume }) => ({ shared: [`gluster:${volume}`], exclusive: [] }),
    run: (spec, context) => turns.take(spec.volume, context.signal, () => run(spec, context))
  }
}

/** What a report is read with: who is connected, and what the hosts are called. */
export interface Cluster {
  hosts: PoolHost[]
  volumes: VolumeInfo[]
}

/** To be asked before whatever makes Gluster forget an operation: were it asked afterwards and did not answer, its last numbers would be lost. */
export async function lookAtCluster ({ gluster }: Workshop): Promise<Cluster> {
  const [hosts, volumes] = await Promise.all([listHosts(gluster), listVolumes(gluster)])
  return { hosts, volumes }
}

/** The last that Gluster told of an operation that it has forgotten by now. */
export function conclude (workshop: Workshop, { hosts, volumes }: Cluster, info: VolumeInfo, { type, bricks }: Target, report: StatusReport & { operationId: string }): Operation {
  return describeOperation({
    volume: info,
    task: { type, operationId: report.operationId, bricks: [...bricks] },
    report,
    views: [],
    rejected: new Set(hosts.filter(host => host.rejected).map(host => host.hostUuid)),
    nameOf: namesOf([info, ...volumes], hosts, workshop.hostId),
    observedAt: new Date().toISOString()
  })
}

export function finalNumbers ({ state, nodes, totals, complete, missing, problem }: Operation): FinalNumbers {
  return { state, nodes, totals, complete, missing, ...(problem !== undefined && { problem }) }
}

/** Whether files are still being moved, or may be: a host that is silent may be at it. */
export function mayRun (state: OperationState, complete: boolean): boolean {
  return state === 'running' || !complete
}
