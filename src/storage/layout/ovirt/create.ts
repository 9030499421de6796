import type { CreateResult } from '../../../api/kinds.ts'
import { AppError } from '../../../errors.ts'
import { closeFd, type Directory } from '../../../system/directory.ts'
import type { Area } from '../../area.ts'
import { makePart, underLease } from '../make-part.ts'
import type { CreateRequest } from '../../protocol.ts'
import { keyOf, readRecord, removeRecord, sourcelessRecord, writeRecord, type CopyRecord } from '../../record.ts'
import { assertCreatable } from '../../space.ts'
import { wholeBlocks } from '../../whole-blocks.ts'
import { publish, withdraw } from './publish.ts'
import { formatVolumeMetadata, type VolumeMetadata } from './volume-metadata.ts'
import { isOwnCreation } from './volume-state.ts'
import { makeImage, readVolume, withImage, type VolumeFiles } from './volumes.ts'

/**
 * Makes an empty volume, LEGAL and of generation 0. It is made where nobody looks, gets its name when its data is whole,
 * and its metadata and lease after that, as vdsm does it. A record explains what a crash leaves; the same command finishes it.
 */
export async function createVolume (area: Area, request: CreateRequest): Promise<CreateResult> {
  const { image, volume, format, allocation, clusterSize, description, diskType } = request
  if (volume === undefined) throw new AppError('bad-request', `Domain ${area.id} has the layout ovirt: say which "volume" of image ${image} is to be made.`)
  const shape = { format, allocation, clusterSize, description, diskType, virtualSize: wholeBlocks(request.virtualSize) }
  const creating = sourcelessRecord(area, { image, volume }, 'creating', request, defined(shape))
  const metadata = metadataOf(area, creating)
  // what does not fit is refused before anything is made
  formatVolumeMetadata(metadata)
  await underLease(area, { image, volume }, async () => {
    const key = keyOf(creating)
    const record = await readRecord(area.copies, area.id, key)
    const files = await withImage(area, image, async directory => directory === undefined ? nothing(volume) : await readVolume(area, image, directory, volume))
    if (record !== undefined && record.phase !== 'done') {
      if (record.source !== undefined || record.phase === 'deleting') throw new AppError('image-interrupted', `${image}/${volume} in domain ${area.id} is an unfinished ${record.phase === 'deleting' ? 'deletion' : 'copy'}. Mend it or delete it first.`)
      if (!isOwnCreation(record, { files })) throw exists(area, image, volume)
      if (record.phase === 'finishing' && isSameCreation(record, creating)) {
        const directory = await makeImage(area, image)
        await finishAs(area, directory, { ...record, volume }, metadataOf(area, record))
        return
      }
      await withImage(area, image, async directory => { await withdraw(area, image, directory, { ...record, volume }) })
    } else if (files.data !== undefined || files.metadata !== undefined || files.problem !== undefined || files.lease) {
      throw files.problem ?? exists(area, image, volume)
    }
    await assertCreatable(area, request)
    await make(area, { ...creating, volume }, metadata)
  })
  return { domain: area.id, image, volume, virtualSize: creating.virtualSize }
}

async function make (area: Area, creating: CopyRecord & { volume: string }, metadata: VolumeMetadata): Promise<void> {
  const { image } = creating
  let record = creating
  try {
    await writeRecord(area.copies, creating)
    const target = await makePart(area, creating)
    // after a crash, this is what tells the volume from one that somebody else has made
    record = { ...creating, phase: 'finishing', inode: target.inode, target }
    await writeRecord(area.copies, record)
    await finishAs(area, await makeImage(area, image), record, metadata)
  } catch (error) {
    await withImage(area, image, async directory => { await withdraw(area, image, directory, record) })
    await removeRecord(area.copies, keyOf(creating))
    throw error
  }
}

async function finishAs (area: Area, directory: Directory, record: CopyRecord & { volume: string }, metadata: VolumeMetadata): Promise<void> {
  try {
    await publish(area, directory, record, metadata)
  } finally {
    await closeFd(directory.fd)
  }
  await removeRecord(area.copies, keyOf(record))
}

const nothing = (volume: string): VolumeFiles => ({ volume, data: undefined, metadata: undefined, problem: undefined, lease: false, abandoned: false })

function exists (area: Area, image: string, volume: string): AppError {
  return new AppError('image-exists', `There is a volume ${volume} in image ${image} of domain ${area.id}, or a part of one. Delete it first, or choose another name.`)
}

function isSameCreation (a: CopyRecord, b: CopyRecord): boolean {
  return (['format', 'virtualSize', 'allocation', 'clusterSize', 'description', 'diskType'] as const).every(key => a[key] === b[key])
}

/** The metadata of a new, empty volume. */
function metadataOf (area: Area, { image, format, virtualSize, allocation, description, diskType, createdAt }: CopyRecord): VolumeMetadata {
  return {
    capacity: virtualSize,
    createdAt: Math.floor(Date.parse(createdAt) / 1000),
    description: description ?? '',
    diskType: diskType ?? 'DATA',
    domain: area.id,
    format: format === 'raw' ? 'RAW' : 'COW',
    generation: 0,
    image,
    legality: 'LEGAL',
    sequence: 0,
    type: allocation === 'preallocated' ? 'PREALLOCATED' : 'SPARSE',
    volumeType: 'LEAF'
  }
}

/** Without the members that are undefined: a record has none. */
function defined<T extends { clusterSize: number | undefined, description: string | undefined, diskType: string | undefined }> ({ clusterSize, description, diskType, ...rest }: T) {
  return { ...rest, ...(clusterSize !== undefined && { clusterSize }), ...(description !== undefined && { description }), ...(diskType !== undefined && { diskType }) }
}
