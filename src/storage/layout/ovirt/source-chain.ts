import { AppError } from '../../../errors.ts'
import { invalidImage } from '../../../qemu/header.ts'
import type { Area } from '../../area.ts'
import { isImageLeased } from '../../image-lease.ts'
import type { ImageAddress } from '../../protocol.ts'
import { keyOf, readRecord, wordsOf } from '../../record.ts'
import type { ChainFile, ChainVolume, SourceChain } from '../source-chain.ts'
import { ancestry, leafOf, parentIn } from './chain.ts'
import { formatOf, type VolumeMetadata } from './volume-metadata.ts'
import { openImage, readVolume, readVolumes, type VolumeFiles } from './volumes.ts'

/** A volume and its ancestors, as the metadata tell: each must be whole and LEGAL. Without a volume it is the leaf. */
export async function ovirtChain (area: Area, { image, volume: given, format }: ImageAddress): Promise<SourceChain> {
  const directory = await openImage(area, image)
  if (directory === undefined) throw new AppError('image-not-found', `There is no image ${image} in domain ${area.id}.`)
  const volumes = await readVolumes(area, image, directory)
  const broken = volumes.find(({ problem }) => problem !== undefined)
  if (given === undefined && broken?.problem !== undefined) throw broken.problem
  // a lease or a file that was left alone is no volume that anybody could mean
  const whole = volumes.filter(({ metadata, problem }) => metadata !== undefined || problem !== undefined)
  const top = given ?? leafOf(whole, image)
  const links = await Promise.all(ancestry(whole, image, top).map(async files => ({ files, metadata: await legal(area, image, files) })))
  const files = links.map(({ files: { volume }, metadata }): ChainFile => ({ image, volume, format: formatOf(metadata), generation: metadata.generation, directory, name: volume }))
  const [first] = files
  const [link] = links
  if (first === undefined || link === undefined) throw new Error('a chain has a top')
  if (format !== undefined && format !== first.format) {
    throw new AppError('format-conflict', `Volume ${top} of image ${image} is ${first.format} by its metadata, not ${format}. Leave out "format".`, {
      members: { declarations: { request: format, metadata: first.format } }
    })
  }
  return {
    top: first,
    description: link.metadata.description,
    diskType: link.metadata.diskType,
    volumes: () => {
      const [first, ...rest] = links.map(({ files: { volume, data }, metadata }, index) =>
        ({ ...chainVolume(area, image, volume, metadata, index === 0), modified: data?.mtimeNs ?? 0n }))
      if (first === undefined) throw new Error('a chain has a top')
      return [first, ...rest]
    },
    below: (file, backing) => {
      const next = files[files.findIndex(({ volume }) => volume === file.volume) + 1]
      // the two must say the same: qemu goes by the one, vdsm by the other
      if (parentIn(backing?.name) !== next?.volume) {
        const names = (name: string | undefined) => name === undefined ? 'none' : JSON.stringify(name.slice(0, 200))
        throw invalidImage(image, `the backing file of volume ${file.volume} is ${names(backing?.name)}, its parent by PUUID is ${names(next?.volume)}`)
      }
      if (next !== undefined && backing?.format !== undefined && backing.format !== next.format) throw formatsDiffer(file, next, backing.format)
      return next
    },
    changes: async () => (await Promise.all(links.map(async ({ files: { volume }, metadata: was }) => {
      const { metadata } = await readVolume(area, image, directory, volume)
      if (metadata === undefined) return [`metadata of ${volume}`]
      return (['legality', 'generation', 'parent', 'capacity'] as const).filter(key => metadata[key] !== was[key]).map(key => `${key} of ${volume}`)
    }))).flat()
  }
}

/** Why a volume is not read whose format the header of its overlay declares otherwise than its own metadata. */
function formatsDiffer (overlay: ChainFile, parent: ChainFile, declared: string): AppError {
  const [above, below] = [wordsOf(overlay), wordsOf(parent)]
  return new AppError('backing-format-conflict', `Volume ${below} is declared as ${JSON.stringify(declared)} by the header of its overlay ${above}, and as ${parent.format} by its own metadata. Nothing was read: correct the one that is wrong.`, {
    members: { overlay: above, backing: below, declarations: { header: declared, metadata: parent.format } }
  })
}

/** What a volume is by itself. @param isTop nothing is based on it in a copy of the chain. */
function chainVolume (
  area: Area, image: string, volume: string, metadata: VolumeMetadata, isTop: boolean
): Omit<ChainVolume, 'modified'> {
  const { capacity, parent, sequence, type } = metadata
  // only a template is shared by images, and it has no parent
  if (metadata.image !== image && (metadata.volumeType !== 'SHARED' || parent !== undefined)) {
    throw new AppError('metadata-invalid', `The metadata file ${area.path}/images/${image}/${volume}.meta cannot be used: the key IMAGE is ${metadata.image}, and only a template, whose VOLTYPE is SHARED and which has no parent, may be another image's. Nothing was changed.`)
  }
  const other = isTop ? 'LEAF' : 'INTERNAL'
  return {
    image: metadata.image,
    volume,
    allocation: type === 'PREALLOCATED' && metadata.format === 'RAW' ? 'preallocated' : 'sparse',
    layer: { format: formatOf(metadata), capacity, ...(parent !== undefined && { parent }), volumeType: metadata.volumeType === 'SHARED' ? 'SHARED' : other, sequence }
  }
}

async function legal (area: Area, image: string, { volume, data, metadata, problem }: VolumeFiles): Promise<VolumeMetadata> {
  if (problem !== undefined) throw problem
  if (metadata === undefined || data === undefined) throw new AppError('image-invalid', `Volume ${volume} of image ${image} in domain ${area.id} has no ${data === undefined ? 'data' : 'metadata'}.`)
  if (metadata.legality === 'LEGAL') return metadata
  const key = keyOf({ image, volume })
  const record = await readRecord(area.copies, area.id, key)
  if (record === undefined || record.phase === 'done') throw new AppError('volume-illegal', `Volume ${volume} of image ${image} in domain ${area.id} is ${metadata.legality}: it is not copied.`)
  throw new AppError('image-interrupted', `Volume ${volume} of image ${image} in domain ${area.id} is itself an unfinished copy${await isImageLeased(area, { image, volume }) ? ' that is still running' : '; mend it first'}.`)
}
