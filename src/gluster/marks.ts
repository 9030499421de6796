import { createHash } from 'node:crypto'
import type { VolumeInfo } from './answers.ts'
import type { Target } from './commands.ts'

/**
 * Gluster picks the id of an operation and takes no note of who asked for it. So the agent that asks leaves a mark in
 * the volume's user options, which every host can read: before the start (`starting`, with the operation that was
 * there before), and after it (`started`, with the id). A caller whose agent died in between asks again, and the
 * operation that came since is his.
 */
export interface Mark {
  taskId: string
  hostId: string
  /** By the clock of that host, RFC 3339. */
  at: string
  /** What was asked for: `rebalance`, `fix-layout`, or the digest of the bricks to remove. */
  what: string
  /** The hosts that held a brick of the volume, see `foldHosts`: one that is not among them has joined later. */
  hosts?: string
}

export interface StartingMark extends Mark {
  /** Random: ties the two marks of one start together. */
  startId: string
  /** The operation that Gluster knew of before; absent when there was none. */
  previous?: string
}

export interface StartedMark extends Mark {
  startId?: string
  operationId: string
}

/** Left by a task that was answered with an operation that it has not started. */
export type ClaimMark = StartedMark

export interface Marks {
  starting?: StartingMark
  started?: StartedMark
  claimed?: ClaimMark
}

/** The option's name. */
export function optionOf (type: Target['type'], step: keyof Marks | 'ended'): string {
  return step === 'started' ? `user.vdsm-tasks.${type}` : `user.vdsm-tasks.${type}-${step}`
}

/** The marks on a volume. What is not one of ours is as good as absent: anybody can set these options. */
export function readMarks ({ options }: Pick<VolumeInfo, 'options'>, type: Target['type']): Marks {
  const starting = parseMark(options.get(optionOf(type, 'starting')))
  const started = parseMark(options.get(optionOf(type, 'started')))
  const claimed = parseMark(options.get(optionOf(type, 'claimed')))
  return {
    ...(starting?.startId !== undefined && { starting: { ...starting, startId: starting.startId } }),
    ...(started?.operationId !== undefined && { started: { ...started, operationId: started.operationId } }),
    ...(claimed?.operationId !== undefined && { claimed: { ...claimed, operationId: claimed.operationId } })
  }
}

/**
 * A mark as an option's value. Glusterd 10.3 aborts on values of about 4,090 characters and more, so it is kept far
 * below: the hosts are left out when they do not fit, and then nobody can be proven to have joined later.
 */
export function formatMark ({ hosts, ...mark }: StartingMark | StartedMark): string {
  const value = JSON.stringify({ ...mark, hostId: mark.hostId.slice(0, 255) })
  if (value.length > maxLength) throw new RangeError(`a mark of ${value.length} characters`)
  const whole = JSON.stringify({ ...mark, hostId: mark.hostId.slice(0, 255), hosts })
  return whole.length > maxLength ? value : whole
}

const maxLength = 2000
/** Characters of each id: two hosts that share them pass for one, which proves less and nothing wrong. */
const idLength = 8

/** The hosts that hold a brick of a volume, in few characters. */
export function foldHosts ({ bricks }: Pick<VolumeInfo, 'bricks'>): string {
  return [...new Set(bricks.map(({ hostUuid }) => hostUuid.slice(0, idLength)))].join('')
}

/** Whether a mark proves that a host held no brick of the volume when it was left. */
export function wasAway ({ hosts }: Pick<Mark, 'hosts'>, hostUuid: string): boolean {
  if (hosts === undefined || !/^([0-9a-f]{8})+$/.test(hosts)) return false
  const ids: readonly string[] = hosts.match(/.{8}/g) ?? []
  return !ids.includes(hostUuid.slice(0, idLength))
}

/** Tells sets of bricks apart in a few characters: all their names would not fit. */
export function digestOf (bricks: readonly string[]): string {
  return createHash('sha256').update([...bricks].sort().join('\n')).digest('hex').slice(0, 32)
}

function parseMark (value: string | undefined): (Mark & Partial<StartingMark & StartedMark>) | undefined {
  if (value === undefined) return undefined
  let mark: unknown
  try {
    mark = JSON.parse(value)
  } catch {
    // set by somebody else
    return undefined
  }
  if (typeof mark !== 'object' || mark === null) return undefined
  const member = (name: string): string | undefined => {
    const found: unknown = Reflect.get(mark, name)
    return typeof found === 'string' ? found : undefined
  }
  const [taskId, hostId, at, what] = ['taskId', 'hostId', 'at', 'what'].map(member)
  if (taskId === undefined || hostId === undefined || at === undefined || what === undefined || Number.isNaN(Date.parse(at))) return undefined
  const rest = ['startId', 'previous', 'operationId', 'hosts'].flatMap(name => {
    const found = member(name)
    return found === undefined ? [] : [[name, found]]
  })
  return { taskId, hostId, at, what, ...Object.fromEntries(rest) }
}
