import { AppError } from '../errors.ts'
import type { Brick, VolumeInfo } from './answers.ts'

/** The bricks that hold the same files as this one, itself included. Throws when there are none but itself. */
export function setOf (info: VolumeInfo, brick: string): Brick[] {
  const place = info.bricks.findIndex(other => other.brick === brick)
  if (place < 0) throw new AppError('brick-not-found', `The Gluster volume ${info.volume} has no brick ${brick}. Its bricks are ${info.bricks.map(other => other.brick).join(', ')}.`)
  const size = Math.max(1, info.disperseCount, info.replicaCount)
  if (size < 2) throw new AppError('not-supported', `${info.volume} has no replicas and no redundancy: what is on ${brick} is nowhere else. Add a brick, and remove this one with startRemoveBrick, which moves its files.`)
  const first = place - place % size
  return info.bricks.slice(first, first + size)
}
