import { AppError } from '../../../errors.ts'
import { fileBeside } from '../../names.ts'
import type { VolumeMetadata } from './volume-metadata.ts'

/** A volume as far as its place among the others goes. */
export interface Link {
  volume: string
  metadata?: Pick<VolumeMetadata, 'parent'> | undefined
}

/** The volumes that have this one as their parent. */
export function childrenOf (volumes: readonly Link[], volume: string): string[] {
  return volumes.filter(({ metadata }) => metadata?.parent === volume).map(child => child.volume).sort()
}

/** Sorts volumes so that each comes after its parent. What is on a cycle comes last, by name. */
export function baseFirst<T extends Link> (volumes: readonly T[]): T[] {
  const rest = new Map(volumes.toSorted((a, b) => a.volume < b.volume ? -1 : 1).map(volume => [volume.volume, volume]))
  const sorted: T[] = []
  for (let found = true; found;) {
    const next = [...rest.values()].filter(({ metadata }) => metadata?.parent === undefined || !rest.has(metadata.parent))
    found = next.length > 0
    for (const volume of next) {
      sorted.push(volume)
      rest.delete(volume.volume)
    }
  }
  return [...sorted, ...rest.values()]
}

/** Volumes whose parents lead round to themselves. */
export function cycleAmong (volumes: readonly Link[]): string[] {
  const parents = new Map(volumes.map(({ volume, metadata }) => [volume, metadata?.parent]))
  return volumes.map(({ volume }) => volume).filter(start => {
    let at = parents.get(start)
    for (let steps = 0; at !== undefined && at !== start && steps < parents.size; steps++) at = parents.get(at)
    return at === start
  }).sort()
}

/** The one volume of an image that no other one is based on. Throws `bad-request` when there are several. */
export function leafOf (volumes: readonly Link[], image: string): string {
  refuseCycle(volumes, image)
  const leaves = volumes.filter(({ volume }) => childrenOf(volumes, volume).length === 0).map(({ volume }) => volume)
  const [leaf] = leaves
  if (leaf === undefined) throw new AppError('image-not-found', `Image ${image} has no volumes.`)
  if (leaves.length > 1) throw new AppError('bad-request', `Image ${image} has ${leaves.length} volumes that no other one is based on (${leaves.slice(0, 3).join(', ')}): say which "volume".`)
  return leaf
}

/** A volume and its ancestors, the volume first. Throws `metadata-invalid` where that leads nowhere. */
export function ancestry<T extends Link> (volumes: readonly T[], image: string, top: string): T[] {
  const byName = new Map(volumes.map(volume => [volume.volume, volume]))
  const chain: T[] = []
  let next: string | undefined = top
  while (next !== undefined) {
    const volume: T | undefined = byName.get(next)
    if (volume === undefined) {
      const last = chain.at(-1)
      if (last === undefined) throw new AppError('image-not-found', `There is no volume ${top} in image ${image}.`)
      throw new AppError('metadata-invalid', missingParentDetail(last, image))
    }
    if (chain.includes(volume)) refuseCycle(volumes, image)
    chain.push(volume)
    next = volume.metadata?.parent
  }
  return chain
}

/** What is said of a volume whose parent is not in its image. */
export function missingParentDetail ({ volume, metadata }: Link, image: string): string {
  return `The metadata file ${volume}.meta of image ${image} names in the key PUUID a volume ${metadata?.parent} that is not there. Nothing was changed.`
}

/** What is said of a chain that has no base. */
export function cycleDetail (cycle: readonly string[], image: string): string {
  return `The metadata of image ${image} cannot be used: the key PUUID of ${cycle.map(volume => `${volume}.meta`).join(', ')} leads round in a cycle. Nothing was changed.`
}

function refuseCycle (volumes: readonly Link[], image: string): void {
  const cycle = cycleAmong(volumes)
  if (cycle.length > 0) throw new AppError('metadata-invalid', cycleDetail(cycle, image))
}

/** The volume that a backing file name in a header means, or that name where it means none: to be compared with a parent. */
export function parentIn (backing: string | undefined): string | undefined {
  return backing === undefined ? undefined : fileBeside(backing) ?? backing
}
