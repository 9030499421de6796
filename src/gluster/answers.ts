import { all, count, has, only, parseXml, seconds, text, texts, unexpected, uuid, type Element } from './xml.ts'

/** Whether Gluster did what it was told, in its own words and numbers. The exit status of the CLI says nothing about that. */
export interface Answer {
  ok: boolean
  errno: number
  /** Gluster's own words when it refused; often empty otherwise. */
  words: string
  output: Element
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
}

export interface VolumeTask {
  type: 'rebalance' | 'remove-brick'
  operationId: string
  /** The bricks that a remove-brick is emptying. */
  bricks: string[]
}

/** How far the work of one host is. `status` is Gluster's number. */
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
  operationId: string
  nodes: NodeReport[]
}

export interface PoolHost {
  hostUuid: string
  /** `localhost` for the host that answers. */
  host: string
  connected: boolean
  /** It is connected, but not accepted as a peer: it does not take part in anything. */
  rejected: boolean
}

/** What a brick's host says of it. The numbers are those of the brick's file system, and there for bricks that are online. */
export interface BrickDetail {
  path: string
  hostUuid: string
  online: boolean
  space?: BrickSpace
}

export interface BrickSpace {
  bytesTotal: number
  bytesFree: number
  /** Absent on file systems without a fixed number of inodes. */
  inodesUsed?: number
  device: string
}

/** What waits to be healed, as one brick knows it. */
export interface BrickHeals {
  /** `host:/path`. */
  brick: string
  /** Entries that other bricks of its set may still lack; undefined when the brick could not be asked. */
  entries?: number
  /** Gluster's word for it: `Connected` when the brick was asked. */
  status: string
}

/** The frame that is common to all answers. */
export function parseAnswer (stdout: string): Answer {
  const output = parseXml(stdout)
  const ret = text(output, 'opRet')
  if (!/^-?\d{1,9}$/.test(ret)) throw unexpected(output, `opRet "${ret}"`)
  return { ok: ret === '0', errno: count(output, 'opErrno'), words: text(output, 'opErrstr'), output }
}

/** `volume info [V]`: read locally by glusterd, without a lock. */
export function readVolumes ({ output }: Answer): VolumeInfo[] {
  return all(only(only(output, 'volInfo'), 'volumes'), 'volume').map(volume => {
    const bricks = all(only(volume, 'bricks'), 'brick').map(readBrick)
    if (bricks.length !== count(volume, 'brickCount')) throw unexpected(volume, `${bricks.length} bricks instead of ${count(volume, 'brickCount')}`)
    return {
      volume: text(volume, 'name'),
      id: uuid(volume, 'id'),
      type: text(volume, 'typeStr'),
      state: volumeStates.get(text(volume, 'status')) ?? 'unknown',
      replicaCount: count(volume, 'replicaCount'),
      disperseCount: count(volume, 'disperseCount'),
      redundancyCount: count(volume, 'redundancyCount'),
      bricks,
      options: new Map(all(volume, 'options').flatMap(options => all(options, 'option')).map(option => [text(option, 'name'), text(option, 'value')]))
    }
  })
}

/** `volume status all tasks`, by volume. Stopped volumes are left out by Gluster. Its states are not read: they are wrong for fix-layout. */
export function readTasks ({ output }: Answer): Map<string, VolumeTask[]> {
  return new Map(all(only(only(output, 'volStatus'), 'volumes'), 'volume').map(volume =>
    [text(volume, 'volName'), all(only(volume, 'tasks'), 'task').flatMap(readTask)]))
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

/** `pool list`: every host of the cluster, this one included. Read without a lock. */
export function readPool ({ output }: Answer): PoolHost[] {
  return all(only(output, 'peerStatus'), 'peer').map(peer => {
    const connected = text(peer, 'connected') === '1'
    return {
      hostUuid: uuid(peer, 'uuid'),
      host: text(peer, 'hostname'),
      connected,
      // the host that answers has no state
      rejected: connected && has(peer, 'state') && text(peer, 'state') !== peerInCluster
    }
  })
}

/** `volume status V detail`, or of all volumes, by volume. Bricks of hosts that do not answer are left out by Gluster. */
export function readDetail ({ output }: Answer): Map<string, BrickDetail[]> {
  return new Map(all(only(only(output, 'volStatus'), 'volumes'), 'volume').map(volume =>
    [text(volume, 'volName'), all(volume, 'node').filter(isBrick).map(readBrickDetail)]))
}

/** `volume heal V info summary`. */
export function readHeals ({ output }: Answer): BrickHeals[] {
  return all(only(only(output, 'healInfo'), 'bricks'), 'brick').map(brick => {
    const status = text(brick, 'status')
    return {
      brick: text(brick, 'name'),
      status,
      ...(status === 'Connected' && { entries: count(brick, 'totalNumberOfEntries') })
    }
  })
}

/** glusterd's number for a peer that takes part; a rejected one has 6. */
const peerInCluster = '3'

const volumeStates: ReadonlyMap<string, VolumeInfo['state']> = new Map([['0', 'created'], ['1', 'started'], ['2', 'stopped']] as const)

function readBrick (element: Element): Brick {
  const brick = text(element, 'name')
  const colon = brick.lastIndexOf(':/')
  if (colon < 1) throw unexpected(element, `"${brick}" is not host:/path`)
  return {
    brick,
    host: brick.slice(0, colon),
    path: brick.slice(colon + 1),
    hostUuid: uuid(element, 'hostUuid'),
    arbiter: text(element, 'isArbiter') === '1'
  }
}

// Other tasks (tiering, in old versions) have no status command of ours: they are left out rather than misread.
function readTask (task: Element): VolumeTask[] {
  const operationId = uuid(task, 'id')
  switch (text(task, 'type')) {
    case 'Rebalance': return [{ type: 'rebalance', operationId, bricks: [] }]
    case 'Remove brick': return [{ type: 'remove-brick', operationId, bricks: texts(only(task, 'params'), 'brick') }]
    default: return []
  }
}

// The aggregate is not read: it claimed a fix-layout was completed while a node was still at it. And `nodeCount`
// counts the cluster's hosts, not those that report.
function readReport (report: Element): StatusReport {
  return {
    operationId: uuid(report, 'task-id'),
    nodes: all(report, 'node').map(node => ({
      hostUuid: uuid(node, 'id'),
      status: count(node, 'status'),
      files: count(node, 'files'),
      bytes: count(node, 'size'),
      scanned: count(node, 'lookups'),
      failures: count(node, 'failures'),
      skipped: count(node, 'skipped'),
      runtimeSeconds: seconds(node, 'runtime')
    }))
  }
}

// Self-heal daemons and the like are listed among the nodes; their path is no path.
function isBrick (node: Element): boolean {
  return text(node, 'path').startsWith('/')
}

function readBrickDetail (node: Element): BrickDetail {
  const online = text(node, 'status') === '1'
  return {
    path: text(node, 'path'),
    hostUuid: uuid(node, 'peerid'),
    online,
    // of a brick that is down, Gluster tells the numbers of whatever file system its path is on now
    ...(online && { space: readSpace(node) })
  }
}

function readSpace (node: Element): BrickSpace {
  const inodesTotal = has(node, 'inodesTotal') ? count(node, 'inodesTotal') : 0
  return {
    bytesTotal: count(node, 'sizeTotal'),
    bytesFree: count(node, 'sizeFree'),
    ...(inodesTotal > 0 && { inodesUsed: Math.max(0, inodesTotal - count(node, 'inodesFree')) }),
    device: text(node, 'device')
  }
}
