import { constants } from 'node:fs'
import { AppError } from '../../../errors.ts'
import { closeFd, look, openFile, type Directory } from '../../../system/directory.ts'
import { linkFile } from '../../../system/durable.ts'
import type { Area } from '../../area.ts'
import { identityOf, inodeOf, isSameContent } from '../../identity.ts'
import { keyOf, readRecord, type Layer } from '../../record.ts'
import type { ChainVolume } from '../source-chain.ts'
import { isEmptyVolume } from './empty.ts'
import { formatOf, type VolumeMetadata } from './volume-metadata.ts'
import { makeImage, readVolume, readVolumes, withImage, writeMetadata, type VolumeFiles } from './volumes.ts'

interface Place {
  area: Area
  image: string
  volume: string
}

/**
 * Whether the base of a chain is on the target already: a whole, LEGAL volume of the same UUID, format and capacity, and
 * one that no guest writes to, because it is INTERNAL or SHARED. One that the engine made to be copied into is as large,
 * but empty. Where a copy record tells where it is from, it must not have been written since, and neither that source.
 */
export async function hasBase (target: Place, source: Place, { layer }: ChainVolume): Promise<boolean> {
  const found = await lookAt(target)
  const { data, metadata } = found ?? {}
  if (data === undefined || metadata?.legality !== 'LEGAL' || metadata.parent !== undefined) return false
  if (formatOf(metadata) !== layer.format || metadata.capacity !== layer.capacity) return false
  const origin = await lookAt(source)
  if (origin?.data === undefined || origin.metadata === undefined) return false
  const record = await readRecord(target.area.copies, target.area.id, keyOf(target))
  const [file] = record?.source?.files ?? []
  if (record !== undefined && record.phase !== 'done') return false
  const isFromThere = record?.source?.domain === source.area.id && file?.volume === source.volume && record.source.files.length === 1
  if (isFromThere) {
    return record.target !== undefined && isSameContent(record.target, identityOf(data)) && isSameContent(file.identity, identityOf(origin.data))
  }
  if (metadata.volumeType === 'LEAF') return false
  return !await isEmpty(target, metadata) || await isEmpty(source, origin.metadata)
}

/** What a volume has that is there otherwise than it has in its chain, in words. */
export function differenceOf (metadata: VolumeMetadata, { format, parent, capacity }: Layer): string | undefined {
  if (formatOf(metadata) !== format) return `format is ${formatOf(metadata)}, not ${format}`
  if (metadata.parent !== parent) return `parent is ${metadata.parent ?? 'none'}, not ${parent ?? 'none'}`
  return metadata.capacity < capacity ? `capacity is ${metadata.capacity}, not ${capacity}` : undefined
}

async function lookAt ({ area, image, volume }: Place): Promise<VolumeFiles | undefined> {
  return await withImage(area, image, async directory => directory === undefined ? undefined : await readVolume(area, image, directory, volume))
}

async function isEmpty ({ area, image, volume }: Place, metadata: VolumeMetadata): Promise<boolean> {
  return await withImage(area, image, async directory => {
    if (directory === undefined) return true
    const fd = await openFile(directory, volume, constants.O_RDONLY)
    try {
      return await isEmptyVolume(fd, { format: formatOf(metadata), capacity: metadata.capacity, owner: area.owner })
    } finally {
      await closeFd(fd)
    }
  })
}

/**
 * Makes sure that what calls itself a template is one, before anything is made in another image because of that: on the
 * source, what lies beside the volumes is a hard link of it; on the target, its image is not that of others.
 */
export async function assertTemplate (target: Place, source: Place, beside: { image: string }): Promise<void> {
  const [own, link] = await Promise.all([lookAt(source), lookAt({ ...source, ...beside })])
  if (own?.data === undefined || link?.data === undefined || inodeOf(own.data) !== inodeOf(link.data)) {
    throw new AppError('image-invalid', `Volume ${source.volume} of image ${beside.image} in domain ${source.area.id} says that it is one of image ${source.image}, and is no hard link of that.`)
  }
  const others = await withImage(target.area, target.image, async directory => (await readVolumes(target.area, target.image, directory)).filter(({ volume }) => volume !== target.volume))
  if (others.length > 0) throw new AppError('target-exists', `Image ${target.image} in domain ${target.area.id} is to hold the template ${target.volume}, and has other volumes.`)
}

/**
 * Makes a complete volume the parent of the next one of the chain in this image: no leaf any more, and, if it is a
 * template, linked beside that, as vdsm does it. The data comes last: until then, what a crash leaves says whose it is.
 */
export async function becomeParent ({ area, image, volume }: Place, child: { image: string }): Promise<void> {
  const isTemplate = image !== child.image
  await withImage(area, image, async directory => {
    const { metadata } = directory === undefined ? {} : await readVolume(area, image, directory, volume)
    if (directory === undefined || metadata?.legality !== 'LEGAL') throw new AppError('target-exists', `Volume ${volume} of image ${image} in domain ${area.id} was removed or changed by somebody else during the copy of its chain.`)
    if (metadata.volumeType === 'LEAF') await writeMetadata(area, directory, volume, { ...metadata, volumeType: isTemplate ? 'SHARED' : 'INTERNAL' })
    if (!isTemplate) return
    const beside = await makeImage(area, child.image)
    try {
      for (const name of [`${volume}.meta`, `${volume}.lease`, volume]) await linkBeside(area, directory, beside, name)
    } finally {
      await closeFd(beside.fd)
    }
  })
}

async function linkBeside (area: Area, from: Directory, to: Directory, name: string): Promise<void> {
  const file = await look(from, name)
  const there = await look(to, name)
  // not every volume has a lease
  if (file === undefined) return
  if (there === undefined) return await linkFile(from, name, to, name)
  // metadata that were written since have another inode there, as with vdsm
  if (!/\./.test(name) && inodeOf(there) !== inodeOf(file)) throw new AppError('target-exists', `There is a volume ${name} in the image that is copied to in domain ${area.id}, and it is not the template of that name.`)
}
