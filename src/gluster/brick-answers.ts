import type { Answer } from './answers.ts'
import { Oddities } from './oddities.ts'
import { all, count, has, text, under, uuid, UnexpectedOutput, type Element } from './xml.ts'

/** What a brick's host says of it. The numbers are those of the brick's file system, and there for bricks that are online. */
export interface BrickDetail {
  path: string
  hostUuid: string
  online: boolean
  space?: BrickSpace
  /** What could not be read. */
  problem?: string
}

export interface BrickSpace {
  bytesTotal: number
  bytesFree: number
  /** Absent on file systems without a fixed number of inodes. */
  inodesUsed?: number
  /** Absent when Gluster does not tell it: then nobody knows whether bricks share the file system. */
  device?: string
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

/** `volume status V detail`, or of all volumes, by volume. Bricks of hosts that do not answer are left out by Gluster. */
export function readDetail ({ output }: Answer): Map<string, BrickDetail[]> {
  const odd = new Oddities()
  return byName(odd.each(under(output, 'volStatus', 'volumes', 'volume'), volume => {
    const bricks = nodesOf(volume).filter(isBrick)
    return [text(volume, 'volName'), odd.each(bricks, readBrickDetail)] as const
  }))
}

/** `volume heal V info summary`. A number that cannot be read is one that is not known. */
export function readHeals ({ output }: Answer): BrickHeals[] {
  const odd = new Oddities()
  return odd.each(under(output, 'healInfo', 'bricks', 'brick'), brick => {
    const status = text(brick, 'status')
    if (status !== 'Connected') return { brick: text(brick, 'name'), status }
    const entries = new Oddities()
    const pending = entries.or(() => count(brick, 'totalNumberOfEntries'), undefined)
    if (pending === undefined) return { brick: text(brick, 'name'), status: entries.told.problem ?? status }
    return { brick: text(brick, 'name'), status, entries: pending }
  })
}

/** Lists that were told in parts, put together. */
function byName<T> (parts: ReadonlyArray<readonly [string, readonly T[]]>): Map<string, T[]> {
  const all = new Map<string, T[]>()
  for (const [name, items] of parts) all.set(name, [...all.get(name) ?? [], ...items])
  return all
}

// A tiered volume has its bricks in two groups.
function nodesOf (volume: Element): Element[] {
  return [...all(volume, 'node'), ...under(volume, 'hotBricks', 'node'), ...under(volume, 'coldBricks', 'node')]
}

// Self-heal daemons and the like are listed among the nodes; their path is no path.
function isBrick (node: Element): boolean {
  return new Oddities().or(() => text(node, 'path').startsWith('/'), false)
}

function readBrickDetail (node: Element): BrickDetail {
  const odd = new Oddities()
  const online = odd.or(() => text(node, 'status'), '') === '1'
  // of a brick that is down, Gluster tells the numbers of whatever file system its path is on now
  const space = online ? odd.or(() => readSpace(node, odd), undefined) : undefined
  return { path: text(node, 'path'), hostUuid: uuid(node, 'peerid'), online, ...(space !== undefined && { space }), ...odd.told }
}

function readSpace (node: Element, odd: Oddities): BrickSpace {
  const bytesTotal = count(node, 'sizeTotal')
  const bytesFree = count(node, 'sizeFree')
  if (bytesFree > bytesTotal) throw new UnexpectedOutput(`of ${bytesTotal} bytes ${bytesFree} are free`, JSON.stringify(node.members))
  const inodesTotal = has(node, 'inodesTotal') ? odd.or(() => count(node, 'inodesTotal'), 0) : 0
  const inodesFree = inodesTotal > 0 ? odd.or(() => count(node, 'inodesFree'), undefined) : undefined
  const device = odd.or(() => text(node, 'device'), '')
  return {
    bytesTotal,
    bytesFree,
    ...(inodesFree !== undefined && { inodesUsed: Math.max(0, inodesTotal - inodesFree) }),
    ...(/^(N\/A)?$/.test(device) ? {} : { device })
  }
}
