import { constants } from 'node:fs'
import { invalidImage } from '../../../qemu/header.ts'
import { closeFd, openFile, type Directory } from '../../../system/directory.ts'
import type { Area } from '../../area.ts'
import { outlastOthers } from '../../patience.ts'
import { lookAtFile, newerBases, problemIn } from '../soundness.ts'
import { baseFirst, missingParentDetail, parentIn } from './chain.ts'
import { formatOf } from './volume-metadata.ts'
import { withImage, type VolumeFiles } from './volumes.ts'

/** What looks at the volumes of an image find. */
export interface ChainSoundness {
  /** By volume, why it is not to be used. */
  problems: ReadonlyMap<string, string>
  warnings: string[]
}

/**
 * Looks whether the volumes of an image can be used: each must be whole, not marked as corrupt, and based on one that
 * is there and can be used, too. What other hosts are just writing may be seen in part: on a shared file system, a
 * problem is looked at twice.
 *
 * @param volumes those that are LEGAL, and their parents.
 */
export async function soundnessOf (
  area: Area, image: string, volumes: readonly VolumeFiles[]
): Promise<ChainSoundness> {
  const first = await lookAtAll(area, image, volumes)
  if (first.problems.size === 0 || area.local) return first
  await outlastOthers(area, { existed: true })
  return await lookAtAll(area, image, volumes)
}

async function lookAtAll (area: Area, image: string, volumes: readonly VolumeFiles[]): Promise<ChainSoundness> {
  const problems = new Map<string, string>()
  const own: string[] = []
  const byName = new Map(volumes.map(files => [files.volume, files]))
  await withImage(area, image, async directory => {
    if (directory === undefined) return
    for (const files of baseFirst(volumes)) {
      const { problem, warnings } = await lookAt(directory, image, files, byName)
      own.push(...warnings)
      const { parent } = files.metadata ?? {}
      const below = parent === undefined ? undefined : problems.get(parent)
      if (problem !== undefined) problems.set(files.volume, problem)
      else if (below !== undefined) {
        problems.set(files.volume, `Volume ${files.volume} is based on one that cannot be used. ${below}`)
      }
    }
  })
  const warnings = volumes.flatMap(({ volume, data, metadata }) => {
    const base = metadata?.parent === undefined ? undefined : byName.get(metadata.parent)
    if (data === undefined || base?.data === undefined) return []
    return newerBases([{ name: volume, modified: data.mtimeNs }, { name: base.volume, modified: base.data.mtimeNs }])
  })
  return { problems, warnings: [...own, ...warnings] }
}

async function lookAt (
  directory: Directory, image: string, { volume, data, metadata }: VolumeFiles, byName: ReadonlyMap<string, VolumeFiles>
): Promise<{ problem?: string | undefined, warnings: string[] }> {
  // what is missing of a volume by itself is told by its files
  if (data === undefined || metadata?.legality !== 'LEGAL') return { warnings: [] }
  const { parent } = metadata
  const words = `${image}/${volume}`
  const base = parent === undefined ? undefined : byName.get(parent)
  if (parent !== undefined && base === undefined) return { problem: missingParentDetail({ volume, metadata }, image), warnings: [] }
  if (base !== undefined && base.data === undefined) {
    return { problem: invalidImage(words, `the data of its parent ${base.volume} is missing`).message, warnings: [] }
  }
  const fd = await openFile(directory, volume, constants.O_RDONLY)
  try {
    const { backing, warnings } = await lookAtFile(fd, words, formatOf(metadata))
    const named = parentIn(backing?.name)
    if (named === undefined || byName.has(named)) return { warnings }
    return { problem: invalidImage(words, `its backing file ${JSON.stringify(named.slice(0, 200))} is missing`).message, warnings }
  } catch (error) {
    return { problem: problemIn(error), warnings: [] }
  } finally {
    await closeFd(fd)
  }
}
