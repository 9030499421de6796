import { nodeStates, operationKinds, type NodeState, type Operation } from '../api/operation.ts'
import type { VolumeInfo } from './answers.ts'
import { setOption } from './commands.ts'
import { optionOf } from './marks.ts'
import { sum } from './observe.ts'
import type { VerbContext, Workshop } from './verb.ts'

/** Below what glusterd dies of, see `formatMark`. */
const maxLength = 2000

type Numbers = [files: number, bytes: number, scanned: number, failures: number, skipped: number, runtimeSeconds: number]

/** The last numbers of an operation, as they are kept on the volume. */
interface EndedMark {
  operationId: string
  kind: Operation['kind']
  how: 'stopped' | 'committed'
  at: string
  taskId?: string | undefined
  hostId?: string | undefined
  startedAt?: string | undefined
  complete: boolean
  missing: number
  totals: Numbers
  /** Left out where they do not fit. */
  nodes?: Array<[hostUuid: string, state: NodeState, ...Numbers]> | undefined
}

/** Notes the last numbers of an operation on the volume, for every host to tell when Gluster has forgotten it. */
export async function leaveEnd ({ gluster }: Workshop, operation: Operation, how: EndedMark['how'], { log, signal }: VerbContext): Promise<void> {
  const { operationId, kind, volume, task, startedAt, complete, missing, totals, nodes } = operation
  const mark: EndedMark = {
    operationId,
    kind,
    how,
    at: new Date().toISOString(),
    taskId: task?.taskId,
    hostId: task?.hostId.slice(0, 255),
    startedAt,
    complete,
    missing: missing.length,
    totals: numbersOf(totals),
    nodes: nodes.map(node => [node.hostUuid, node.state, ...numbersOf(node)])
  }
  const whole = JSON.stringify(mark)
  const value = whole.length > maxLength ? JSON.stringify({ ...mark, nodes: undefined }) : whole
  try {
    await setOption(gluster, volume, optionOf(kind === 'remove-brick' ? kind : 'rebalance', 'ended'), value, signal)
  } catch (error) {
    log.warn({ err: error, operationId }, 'the last numbers of the operation could not be noted on the volume')
  }
}

/** The operations that have ended on a volume, as far as marks tell of them: the last of each type. */
export function endedOn (volume: VolumeInfo, nameOf: (hostUuid: string) => string): Operation[] {
  return (['rebalance', 'remove-brick'] as const).flatMap(type => {
    const mark = parse(volume.options.get(optionOf(type, 'ended')))
    return mark === undefined ? [] : [describe(volume, mark, nameOf)]
  })
}

function describe ({ volume }: VolumeInfo, mark: EndedMark, nameOf: (hostUuid: string) => string): Operation {
  const { operationId, kind, how, at, taskId, hostId, startedAt, complete } = mark
  const reports = (mark.nodes ?? []).map(([hostUuid, state, ...numbers]) => ({ hostUuid, state, ...namedNumbers(numbers) }))
  return {
    operationId,
    kind,
    volume,
    ...(taskId !== undefined && hostId !== undefined && { task: { taskId, hostId } }),
    ...(startedAt !== undefined && { startedAt }),
    state: how === 'stopped' ? 'stopped' : 'completed',
    nodes: reports.map(report => ({ host: nameOf(report.hostUuid), ...report })),
    totals: namedNumbers(mark.totals),
    complete,
    missing: [],
    ended: { how, at },
    observedAt: at
  }
}

function numbersOf ({ files, bytes, scanned, failures, skipped, runtimeSeconds }: ReturnType<typeof sum>): Numbers {
  return [files, bytes, scanned, failures, skipped, runtimeSeconds]
}

function namedNumbers ([files, bytes, scanned, failures, skipped, runtimeSeconds]: Numbers): ReturnType<typeof sum> {
  return { files, bytes, scanned, failures, skipped, runtimeSeconds }
}

// Anybody can set these options: what is not one of ours is as good as absent.
function parse (value: string | undefined): EndedMark | undefined {
  if (value === undefined) return undefined
  try {
    const mark: unknown = JSON.parse(value)
    return isMark(mark) ? mark : undefined
  } catch {
    return undefined
  }
}

function isMark (mark: unknown): mark is EndedMark {
  if (typeof mark !== 'object' || mark === null) return false
  const { operationId, kind, how, at, taskId, hostId, startedAt, complete, totals, nodes }: Partial<Record<keyof EndedMark, unknown>> = mark
  const isText = (value: unknown): boolean => value === undefined || typeof value === 'string'
  return typeof operationId === 'string' && /^[0-9a-f-]{36}$/.test(operationId) && operationKinds.some(known => known === kind) &&
    (how === 'stopped' || how === 'committed') && typeof at === 'string' && !Number.isNaN(Date.parse(at)) &&
    [taskId, hostId, startedAt].every(isText) && typeof complete === 'boolean' && isNumbers(totals) &&
    (nodes === undefined || (Array.isArray(nodes) && nodes.every(isNode)))
}

function isNode (node: unknown): boolean {
  return Array.isArray(node) && typeof node[0] === 'string' && nodeStates.some(known => known === node[1]) && isNumbers(node.slice(2))
}

function isNumbers (numbers: unknown): boolean {
  return Array.isArray(numbers) && numbers.length === 6 && numbers.every(number => typeof number === 'number' && number >= 0)
}
