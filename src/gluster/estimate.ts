import type { OperationEstimate } from '../api/operation.ts'
import type { Brick, VolumeInfo, VolumeTask } from './answers.ts'
import type { BrickDetail, BrickSpace } from './brick-answers.ts'

/** The bricks of all volumes by volume, as they were at some time. */
export interface Usage {
  bricks: ReadonlyMap<string, readonly BrickDetail[]>
  at: string
}

/** Data held by a set of bricks that hold the same files, or the pieces of the same files. */
export interface Fill {
  bricks: readonly Brick[]
  bytesTotal: number
  bytesUsed: number
}

/** How much is left to move, and how that was worked out. */
export type Remainder = Pick<OperationEstimate, 'bytesLeft' | 'basis'>

/**
 * What an operation still has to move, from the space in use on the bricks.
 *
 * Undefined when the space in use says nothing about a brick: it is offline, or shares its file system.
 */
export function remainderOf (volume: VolumeInfo, task: VolumeTask, usage: Usage): Remainder | undefined {
  const fills = fillsOf(volume, usage)
  if (fills === undefined) return undefined
  if (task.type === 'remove-brick') {
    const leaving = fills.filter(({ bricks }) => bricks.every(({ brick }) => task.bricks.includes(brick)))
    return { bytesLeft: leaving.reduce((bytes, fill) => bytes + fill.bytesUsed, 0), basis: 'bytes-on-removed-bricks' }
  }
  // Gluster gives each set of bricks a share of the names in proportion to its size (cluster.weighted-rebalance).
  const used = fills.reduce((bytes, fill) => bytes + fill.bytesUsed, 0)
  const total = fills.reduce((bytes, fill) => bytes + fill.bytesTotal, 0)
  const surplus = fills.map(fill => Math.max(0, fill.bytesUsed - used * fill.bytesTotal / Math.max(1, total)))
  return { bytesLeft: Math.round(surplus.reduce((bytes, more) => bytes + more, 0)), basis: 'even-fill-of-bricks' }
}

/** How full each set of bricks is. Undefined unless every brick is online and alone on its file system. */
export function fillsOf (volume: VolumeInfo, { bricks: all }: Usage): Fill[] | undefined {
  const devices = [...all.values()].flat().flatMap(({ hostUuid, space }) => space === undefined ? [] : [space.device === undefined ? undefined : `${hostUuid} ${space.device}`])
  if (devices.includes(undefined)) return undefined
  if (new Set(devices).size < devices.length) return undefined
  return spacesOf(volume, all.get(volume.volume) ?? [], ({ bricks, spaces, pieces }) =>
    spaces.length < bricks.length
      ? undefined
      : {
          bricks,
          bytesTotal: Math.min(...spaces.map(space => space.bytesTotal)) * pieces,
          bytesUsed: Math.max(...spaces.map(space => space.bytesTotal - space.bytesFree)) * pieces
        })
}

/** What a volume can hold and what is free there. Undefined unless a brick of every set is online. */
export function capacityOf (volume: VolumeInfo, details: readonly BrickDetail[]): { bytesTotal: number, bytesFree: number } | undefined {
  const sets = spacesOf(volume, details, ({ spaces, pieces }) => spaces.length === 0
    ? undefined
    : {
        bytesTotal: Math.min(...spaces.map(space => space.bytesTotal)) * pieces,
        bytesFree: Math.min(...spaces.map(space => space.bytesFree)) * pieces
      })
  return sets?.reduce((all, set) => ({ bytesTotal: all.bytesTotal + set.bytesTotal, bytesFree: all.bytesFree + set.bytesFree }), { bytesTotal: 0, bytesFree: 0 })
}

interface BrickSet {
  bricks: readonly Brick[]
  /** Of the bricks that hold data and are online. */
  spaces: readonly BrickSpace[]
  /** How many bricks' worth of data the set holds: more than one when it is dispersed. */
  pieces: number
}

/** Each set of bricks of a volume through `map`; undefined as soon as that says so. */
function spacesOf<T> (volume: VolumeInfo, details: readonly BrickDetail[], map: (set: BrickSet) => T | undefined): T[] | undefined {
  // which bricks make a set is worked out from what can be read only; the two groups of a tiered volume differ in that
  if (volume.problem !== undefined || volume.type === 'Tier') return undefined
  const size = Math.max(1, volume.disperseCount, volume.replicaCount)
  const spaceOf = new Map(details.map(({ hostUuid, path, space }) => [`${hostUuid} ${path}`, space]))
  const sets: T[] = []
  for (let start = 0; start < volume.bricks.length; start += size) {
    const bricks = volume.bricks.slice(start, start + size).filter(brick => !brick.arbiter)
    const spaces = bricks.flatMap(({ hostUuid, path }) => spaceOf.get(`${hostUuid} ${path}`) ?? [])
    const mapped = map({ bricks, spaces, pieces: Math.max(1, volume.disperseCount - volume.redundancyCount) })
    if (mapped === undefined) return undefined
    sets.push(mapped)
  }
  return sets
}
