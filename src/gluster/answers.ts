import { Oddities } from './oddities.ts'
import { all, count, has, only, parseXml, seconds, text, texts, under, unexpected, uuid, type Element } from './xml.ts'

/** Whether Gluster did what it was told, in its own words and numbers. The exit status of the CLI says nothing about that. */
export interface Answer {
  ok: boolean
  errno: number
  /** Gluster's own words when it refused; often empty otherwise. */
  words: string
  output: Element
  /** What could not be read of the frame. */
  problem?: string
}

export interface Brick {
  /** `host:/path`, as commands take it. */
  brick: string
  host: string
  path: string
  hostUuid: string
  arbiter: boolean
}

export interface VolumeInfo {
  volume: string
  id: string
  type: string
  state: 'created' | 'started' | 'stopped' | 'unknown'
  replicaCount: number
  disperseCount: number
  redundancyCount: number
  /** In order: each run of `replicaCount` (or `disperseCount`) bricks holds the same files. */
  bricks: Brick[]
  options: ReadonlyMap<string, string>
  /** What could not be read, with an excerpt: nothing may be risked on the rest. */
  problem?: string
}

export interface VolumeTask {
  type: 'rebalance' | 'remove-brick'
  operationId: string
  /** The bricks that a remove-brick is emptying. */
  bricks: string[]
}

/** How far the work of one host is. `status` is Gluster's number. A number that could not be read is 0. */
export interface NodeReport {
  hostUuid: string
  status: number
  files: number
  bytes: number
  scanned: number
  failures: number
  skipped: number
  runtimeSeconds: number
}

export interface StatusReport {
  /** Absent when Gluster does not tell it. */
  operationId?: string
  nodes: NodeReport[]
  /** What could not be read, with an excerpt. */
  problem?: string
  /** Whether a host, its state or its files are among that: nobody may count on the report. */
  unsure?: boolean
}

/** What runs on the volumes. */
export interface TaskList {
  tasks: Map<string, VolumeTask[]>
  /** Volumes of which something could not be read, and what. */
  problems: Map<string, string>
}

export interface PoolHost {
  hostUuid: string
  /** `localhost` for the host that answers. */
  host: string
  connected: boolean
  /** It is connected, but not accepted as a peer: it does not take part in anything. */
  rejected: boolean
}

/** The frame that is common to all answers. One in which only the verdict cannot be read is taken for what it holds. */
export function parseAnswer (stdout: string): Answer {
  const output = parseXml(stdout)
  const odd = new Oddities()
  const ret = odd.or(() => text(output, 'opRet'), '')
  const isNumber = /^-?\d{1,9}$/.test(ret)
  if (!isNumber && !hasContent(output)) throw unexpected(output, `opRet "${ret}"`)
  if (!isNumber) odd.add(unexpected(output, `opRet "${ret}"`))
  return {
    ok: isNumber ? ret === '0' : true,
    errno: odd.or(() => count(output, 'opErrno'), 0),
    words: odd.or(() => text(output, 'opErrstr'), ''),
    output,
    ...odd.told
  }
}

/** `volume info [V]`: read locally by glusterd, without a lock. */
export function readVolumes (answer: Answer): VolumeInfo[] {
  return readVolumeList(answer).volumes
}

/** The same, and what could not be read of any volume. */
export function readVolumeList ({ output }: Answer): { volumes: VolumeInfo[], problem?: string } {
  const odd = new Oddities()
  only(output, 'volInfo')
  const volumes = odd.each(under(output, 'volInfo', 'volumes', 'volume'), readVolume)
  return { volumes: volumes.filter(({ volume }, index) => volumes.findIndex(other => other.volume === volume) === index), ...odd.told }
}

function readVolume (volume: Element): VolumeInfo {
  const odd = new Oddities()
  const number = (name: string): number => odd.or(() => count(volume, name), 0)
  const bricks = odd.each(bricksOf(volume), brick => readBrick(brick, odd))
  const brickCount = number('brickCount')
  if (bricks.length !== brickCount) odd.add(unexpected(volume, `${bricks.length} bricks instead of ${brickCount}`))
  const options = odd.each(under(volume, 'options', 'option'), option => [text(option, 'name'), text(option, 'value')] as const)
  return {
    volume: text(volume, 'name'),
    id: odd.or(() => uuid(volume, 'id'), ''),
    type: odd.or(() => text(volume, 'typeStr'), ''),
    state: volumeStates.get(odd.or(() => text(volume, 'status'), '')) ?? 'unknown',
    replicaCount: number('replicaCount'),
    disperseCount: number('disperseCount'),
    redundancyCount: number('redundancyCount'),
    bricks,
    options: new Map(options),
    ...odd.told
  }
}

/** `volume status all tasks`, by volume. Stopped volumes are left out by Gluster. Its states are not read: they are wrong for fix-layout. */
export function readTasks (answer: Answer): Map<string, VolumeTask[]> {
  return readTaskList(answer).tasks
}

/** The same, and the volumes of which something could not be read. */
export function readTaskList ({ output }: Answer): TaskList {
  const tasks = new Map<string, VolumeTask[]>()
  const problems = new Map<string, string>()
  only(output, 'volStatus')
  new Oddities().each(under(output, 'volStatus', 'volumes', 'volume'), volume => {
    const name = text(volume, 'volName')
    const odd = new Oddities()
    const found = odd.each(odd.or(() => under(volume, 'tasks', 'task'), []), readTask).flat()
    const before = tasks.get(name) ?? []
    const isNew = ({ operationId }: VolumeTask): boolean => before.every(other => other.operationId !== operationId)
    tasks.set(name, [...before, ...found.filter(isNew)])
    if (odd.told.problem !== undefined) problems.set(name, odd.told.problem)
  })
  return { tasks, problems }
}

/** `volume rebalance V status` or `stop`. */
export function readRebalance ({ output }: Answer): StatusReport {
  return readReport(only(output, 'volRebalance'))
}

/** `volume remove-brick V BRICK... status` or `stop`. */
export function readRemoveBrick ({ output }: Answer): StatusReport {
  return readReport(only(output, 'volRemoveBrick'))
}

/** The id in the answer to `rebalance V start`, `fix-layout start` or `remove-brick V BRICK... start`. */
export function readOperationId ({ output }: Answer): string {
  return uuid(only(output, has(output, 'volRebalance') ? 'volRebalance' : 'volRemoveBrick'), 'task-id')
}

/** `pool list`: every host of the cluster, this one included. Read without a lock. Hosts that cannot be read are left out. */
export function readPool ({ output }: Answer): PoolHost[] {
  const odd = new Oddities()
  only(output, 'peerStatus')
  return odd.each(under(output, 'peerStatus', 'peer'), peer => {
    const connected = odd.or(() => text(peer, 'connected'), '') === '1'
    return {
      hostUuid: uuid(peer, 'uuid'),
      host: odd.or(() => text(peer, 'hostname'), ''),
      connected,
      // the host that answers has no state
      rejected: connected && has(peer, 'state') && odd.or(() => text(peer, 'state'), '') !== peerInCluster
    }
  })
}

/** glusterd's number for a peer that takes part; a rejected one has 6. */
const peerInCluster = '3'

const volumeStates: ReadonlyMap<string, VolumeInfo['state']> = new Map([['0', 'created'], ['1', 'started'], ['2', 'stopped']] as const)

/** Whether there is more than a verdict. */
function hasContent (output: Element): boolean {
  return Object.keys(output.members).some(name => !/^(op[A-Z]\w*|cliOp|output)$/.test(name))
}

// A tiered volume has its bricks in two groups.
function bricksOf (volume: Element): Element[] {
  return [[], ['hotBricks'], ['coldBricks']].flatMap(group => under(volume, 'bricks', ...group, 'brick'))
}

function readBrick (element: Element, odd: Oddities): Brick {
  const brick = text(element, 'name')
  const colon = brick.lastIndexOf(':/')
  if (colon < 1) throw unexpected(element, `"${brick}" is not host:/path`)
  return {
    brick,
    host: brick.slice(0, colon),
    path: brick.slice(colon + 1),
    hostUuid: odd.or(() => uuid(element, 'hostUuid'), ''),
    arbiter: has(element, 'isArbiter') && odd.or(() => text(element, 'isArbiter'), '') === '1'
  }
}

// Other tasks (tiering, in old versions) have no status command of ours: they are left out rather than misread.
function readTask (task: Element): VolumeTask[] {
  switch (text(task, 'type')) {
    case 'Rebalance': return [{ type: 'rebalance', operationId: uuid(task, 'id'), bricks: [] }]
    case 'Remove brick': return [{ type: 'remove-brick', operationId: uuid(task, 'id'), bricks: texts(only(task, 'params'), 'brick') }]
    default: return []
  }
}

// The aggregate is not read: it claimed a fix-layout was completed while a node was still at it. And `nodeCount`
// counts the cluster's hosts, not those that report.
function readReport (report: Element): StatusReport {
  const odd = new Oddities()
  // what a decision hangs on is told apart from what is only shown
  const grave = new Oddities()
  const shown = new Oddities()
  const operationId = odd.or(() => uuid(report, 'task-id'), undefined)
  const told = grave.each(odd.or(() => all(report, 'node'), []), node => ({
    hostUuid: uuid(node, 'id'),
    status: grave.or(() => count(node, 'status'), unknownStatus),
    files: grave.or(() => count(node, 'files'), 0),
    bytes: shown.or(() => count(node, 'size'), 0),
    scanned: shown.or(() => count(node, 'lookups'), 0),
    failures: grave.or(() => count(node, 'failures'), 0),
    skipped: grave.or(() => count(node, 'skipped'), 0),
    runtimeSeconds: shown.or(() => seconds(node, 'runtime'), 0)
  }))
  const nodes = told.filter(({ hostUuid }, index) => told.findIndex(other => other.hostUuid === hostUuid) === index)
  const twice = told.find(node => nodes.some(({ hostUuid, status }) => hostUuid === node.hostUuid && status !== node.status))
  if (twice !== undefined) grave.add(unexpected(report, `the host ${twice.hostUuid} has two states`))
  const problem = [grave, shown, odd].map(({ told: { problem } }) => problem).find(text => text !== undefined)
  return {
    ...(operationId !== undefined && { operationId }),
    nodes,
    ...(problem !== undefined && { problem }),
    ...(grave.told.problem !== undefined && { unsure: true })
  }
}

/** No state that Gluster knows. */
const unknownStatus = 99
