import type { DeleteResult } from '../../../api/kinds.ts'
import { AppError } from '../../../errors.ts'
import { look, type Directory } from '../../../system/directory.ts'
import { removeDirectory, removeFile } from '../../../system/durable.ts'
import { hasErrno } from '../../../system/errno.ts'
import type { Area } from '../../area.ts'
import { hasChildren } from '../../has-children.ts'
import { identityOf } from '../../identity.ts'
import { assertUnused } from '../../in-use.ts'
import { takeImageLease, type ImageLease } from '../../image-lease.ts'
import { outlastOthers } from '../../patience.ts'
import type { DeleteRequest } from '../../protocol.ts'
import {
  assertOffered, hasCutOffWrite, keyOf, namedBy, readAnyRecord, readToDelete, removeRecord, sourcelessRecord, wordsOf, writeIntent,
  type CopyRecord, type KeptChain
} from '../../record.ts'
import { isMeantBy, isStillThere } from '../../standing.ts'
import { underLease } from '../make-part.ts'
import { baseFirst, childrenOf } from './chain.ts'
import { recordedVolumes, usersElsewhere, writtenAfter } from './inspect.ts'
import type { VolumeMetadata } from './volume-metadata.ts'
import { isOwnCreation, standingOf } from './volume-state.ts'
import { readVolume, readVolumes, removedPrefix, removeLeasePart, removeVolume, withImage, writeMetadata, type VolumeFiles } from './volumes.ts'

/**
 * Deletes a volume, or an image with all its volumes, or what is left of either. The intent is made durable first: after
 * a crash nobody takes the rest for good, and any host can finish it. Then vdsm's order: ILLEGAL, data, lease, metadata.
 */
export async function deleteImage (area: Area, request: DeleteRequest, accepted: () => void): Promise<DeleteResult> {
  const { image, volume } = request
  return await withImage(area, image, async directory => {
    const bytesFreed = volume === undefined
      ? await deleteWhole(area, request, directory, accepted)
      : await deleteOne(area, { ...request, volume }, directory, accepted)
    return { domain: area.id, image, ...(volume !== undefined && { volume }), bytesFreed }
  })
}

async function deleteOne (area: Area, request: DeleteRequest & { volume: string }, directory: Directory | undefined, accepted: () => void): Promise<number> {
  const { image, volume } = request
  return await underLeases(area, image, [volume], async () => {
    const volumes = await readVolumes(area, image, directory)
    const files = volumes.find(files => files.volume === volume)
    const key = keyOf(request)
    const { record, broken } = await readToDelete(area.copies, area.id, key)
    assertOffered(area, request, record, files !== undefined && isWhole(record, files))
    if (files === undefined && record === undefined && !broken && !await hasCutOffWrite(area.copies, key)) {
      throw new AppError('image-not-found', `There is no volume ${volume} in image ${image} of domain ${area.id}.`)
    }
    // the name is that of a volume that is not this copy's, or no longer: only what is left of the copy goes
    const isForeign = files !== undefined && record !== undefined && await isForeignTo(area, record, files)
    // the volumes below a chain that is not whole are of no use without it
    const chain = record?.phase === 'done' ? undefined : record?.chain
    if (files === undefined || isForeign) {
      if (chain !== undefined && record !== undefined) await writeIntent(area.copies, { ...sourcelessRecord(area, request, 'deleting', request, record), chain }, record)
      const below = chain === undefined ? 0 : await deleteBelow(area, request, chain, directory)
      const bytes = await removeRest(area, image, record, key)
      accepted()
      return below + bytes
    }
    const children = [...childrenOf(volumes, volume), ...await usersElsewhere(area, image, files)]
    if (children.length > 0) throw childrenError(area, image, volume, children)
    if (directory === undefined) throw new Error('a volume without a directory')
    await assertRemovable(directory, image, files)
    const intent = sourcelessRecord(area, request, 'deleting', request, record ?? emptyShape)
    const target = files.data === undefined ? undefined : identityOf(files.data)
    const restore = await writeIntent(area.copies, { ...intent, ...(chain !== undefined && { chain }), ...(target !== undefined && { target }) }, record)
    accepted()
    const bytes = await remove(area, image, directory, files, volumes).catch(async (error: unknown) => {
      // what is still there is as good as it was
      if (target !== undefined && await isStillThere(directory, volume, target)) await restore()
      throw error
    })
    const below = chain === undefined ? 0 : await deleteBelow(area, request, chain, directory)
    return bytes + below + await removeRest(area, image, record, key)
  })
}

/** Deletes, from the top down, what the unfinished copy of a chain has made in its image, and the link of its template. Returns the bytes freed. */
async function deleteBelow (area: Area, request: DeleteRequest, { id, volumes: below }: KeptChain, directory: Directory | undefined): Promise<number> {
  const { image } = request
  let bytes = 0
  for (const { image: home, volume } of below.toReversed()) {
    const key = keyOf({ image, volume })
    const { record } = await readAnyRecord(area.copies, area.id, key)
    const isOurs = record?.partOf?.id === id
    // or the first write of its record was cut off
    const mayBeOurs = async () => isOurs || await isCutOff(area, key)
    if (home === image && !await mayBeOurs()) continue
    bytes += await underLease(area, { image, volume }, async () => {
      const volumes = await readVolumes(area, image, directory)
      const files = volumes.find(files => files.volume === volume)
      // somebody else may have begun with the volume in the meantime
      if (home === image && !isOurs && (files !== undefined || !await mayBeOurs())) return 0
      if (directory === undefined || files === undefined) return await removeRest(area, image, record, key)
      // others were based on it in the meantime
      if (childrenOf(volumes, volume).length > 0) return 0
      const isLink = home !== image
      // the template itself, and its metadata, are that of another image
      if (isLink && files.metadata !== undefined && files.metadata.image !== home) return 0
      if (isLink) await removeVolume(directory, volume)
      const freed = isLink ? 0 : await remove(area, image, directory, files, volumes)
      return freed + await removeRest(area, image, isLink ? undefined : record, key)
    }, { withoutFile: true })
  }
  return bytes
}

async function isCutOff (area: Area, key: string): Promise<boolean> {
  const { record, problem } = await readAnyRecord(area.copies, area.id, key)
  return record === undefined && problem === undefined && await hasCutOffWrite(area.copies, key)
}

async function deleteWhole (area: Area, request: DeleteRequest, directory: Directory | undefined, accepted: () => void): Promise<number> {
  const { image } = request
  const names = async () => {
    const recorded = (await recordedVolumes(area)).get(image) ?? []
    return { recorded, all: [...new Set([...(await readVolumes(area, image, directory)).map(({ volume }) => volume), ...recorded])].filter(volume => volume !== '') }
  }
  const { all, recorded } = await names()
  if (directory === undefined && recorded.length === 0) throw new AppError('image-not-found', `There is no image ${image} in domain ${area.id}.`)
  return await underLeases(area, image, all, async () => {
    const late = (await names()).all.filter(volume => !all.includes(volume))
    if (late.length > 0) throw new AppError('resource-busy', `A volume ${late[0]} is just being made in image ${image} of domain ${area.id}. Try again.`)
    const volumes = await readVolumes(area, image, directory)
    for (const files of volumes) {
      const users = isRemoved(image) ? [] : await usersElsewhere(area, image, files)
      if (users.length > 0) throw childrenError(area, image, files.volume, users)
      if (!isRemoved(image) && files.problem !== undefined) throw files.problem
      if (directory !== undefined) await assertRemovable(directory, image, { ...files, problem: undefined })
    }
    const before = await assertMeant(area, image, volumes)
    const records = await Promise.all(all.map(async volume =>
      await readToDelete(area.copies, area.id, keyOf({ image, volume }))))
    const isUnfinished = records.some(({ record }) => record !== undefined && record.phase !== 'done')
    const isUsed = isUnfinished || volumes.some(files => isWhole(undefined, files))
    assertOffered(area, request, before, before === undefined && !isRemoved(image) && isUsed)
    const restore = await writeIntent(area.copies, sourcelessRecord(area, { image }, 'deleting', request, emptyShape), before)
    accepted()
    let bytes = 0
    try {
      // whoever looks meanwhile sees no volume whose parent is gone
      for (const files of baseFirst(volumes).reverse()) {
        if (directory !== undefined) bytes += await remove(area, image, directory, files, [])
      }
    } catch (error) {
      if (directory !== undefined && await areAllThere(directory, volumes)) await restore()
      throw error
    }
    for (const volume of all) {
      const key = keyOf({ image, volume })
      bytes += await removeRest(area, image, (await readAnyRecord(area.copies, area.id, key)).record, key)
    }
    if (directory !== undefined && !await removeDirectory(area.images, image)) {
      throw new AppError('storage-failed', `The volumes of image ${image} in domain ${area.id} are deleted, but other files are in its directory. Look at them, remove them, and delete the image again.`, { changed: true })
    }
    await removeRecord(area.copies, image)
    return bytes
  })
}

/**
 * An image whose deletion was interrupted is deleted on only as long as nobody has made or written a volume of it since, by
 * the storage's own clock. Throws `record-newer` for an intent of a newer agent.
 *
 * @returns the intent that there was.
 */
async function assertMeant (area: Area, image: string, volumes: readonly VolumeFiles[]): Promise<CopyRecord | undefined> {
  const { record } = await readToDelete(area.copies, area.id, image)
  const late = record === undefined ? undefined : await writtenAfter(area, record, volumes)
  if (late === undefined) return record
  throw new AppError('image-interrupted', `The deletion of image ${image} in domain ${area.id} was interrupted, and volume ${late} was made or written ` +
    'since. Nothing was deleted. Forget that deletion (forgetCopy); then delete what is to go.')
}

/** What vdsm was removing is nobody's any more. */
const isRemoved = (image: string) => image.startsWith(removedPrefix)

/** Whether a volume is good by itself: nothing unfinished is there of it, or the copy that is has come to its end. */
function isWhole (record: CopyRecord | undefined, files: VolumeFiles): boolean {
  if (record !== undefined && record.phase !== 'done') {
    return record.source !== undefined && ['ended', 'used'].includes(standingOf(record, files))
  }
  return files.data !== undefined && files.problem === undefined && files.metadata?.legality === 'LEGAL'
}

async function areAllThere (directory: Directory, volumes: readonly VolumeFiles[]): Promise<boolean> {
  const there = await Promise.all(volumes.map(async ({ volume, data }) => data === undefined || await isStillThere(directory, volume, identityOf(data))))
  return there.every(Boolean)
}

const emptyShape = { format: 'raw', virtualSize: 0, allocation: 'sparse' } as const

async function isForeignTo (area: Area, record: CopyRecord, files: VolumeFiles): Promise<boolean> {
  if (record.phase === 'done') return false
  if (record.phase === 'deleting') return files.data !== undefined && !await isMeantBy(record, area.copies, files.data)
  if (record.source === undefined) return !isOwnCreation(record, { files })
  return standingOf(record, files) === 'foreign'
}

async function assertRemovable (directory: Directory, image: string, { volume, data, problem }: VolumeFiles): Promise<void> {
  if (problem !== undefined) throw problem
  if (data !== undefined) await assertUnused(directory, volume, `${image}/${volume}`, 'Nothing was deleted.')
}

/** On a storage without space for that, the volume goes without: it is how space is made. */
async function markIllegal (area: Area, directory: Directory, volume: string, metadata: VolumeMetadata): Promise<void> {
  await writeMetadata(area, directory, volume, { ...metadata, legality: 'ILLEGAL' }).catch((error: unknown) => {
    if (!hasErrno(error, 'ENOSPC', 'EDQUOT')) throw error
  })
}

/** @param siblings the volumes of the image, among them the parent that may become a leaf again. */
async function remove (area: Area, image: string, directory: Directory, { volume, data, metadata }: VolumeFiles, siblings: readonly VolumeFiles[]): Promise<number> {
  const wasLegal = metadata !== undefined && metadata.legality !== 'ILLEGAL'
  if (wasLegal) await markIllegal(area, directory, volume, metadata)
  try {
    await removeFile(directory, volume)
  } catch (error) {
    // what is still there is as good as it was
    if (wasLegal && data !== undefined && await isStillThere(directory, volume, identityOf(data))) await writeMetadata(area, directory, volume, metadata)
    throw error
  }
  const parent = siblings.find(sibling => sibling.volume === metadata?.parent)
  if (parent !== undefined && childrenOf(siblings, parent.volume).every(child => child === volume)) {
    // read again: only what says that it is INTERNAL becomes a LEAF, a template stays SHARED
    const { metadata } = await readVolume(area, image, directory, parent.volume)
    if (metadata?.volumeType === 'INTERNAL') await writeMetadata(area, directory, parent.volume, { ...metadata, volumeType: 'LEAF' })
  }
  await removeVolume(directory, volume)
  // while another name of it is left, in another image that uses it, the storage gets nothing back
  return data === undefined || data.nlink > 1n ? 0 : Number(data.blocks) * 512
}

/** Removes the part and the record, then the image's directory if it is empty. */
async function removeRest (area: Area, image: string, record: CopyRecord | undefined, key: string): Promise<number> {
  const part = record === undefined ? undefined : await look(area.parts, record.copyId)
  if (record !== undefined) await removeFile(area.parts, record.copyId)
  const { volume } = namedBy(key)
  if (volume !== undefined) await removeLeasePart(area, volume)
  if (key !== image) await removeDirectory(area.images, image)
  await removeRecord(area.copies, key)
  return Number(part?.blocks ?? 0n) * 512
}

/** Does something under the leases of volumes, and that of the image itself, which every deletion takes. */
async function underLeases<T> (area: Area, image: string, volumes: readonly string[], work: () => Promise<T>): Promise<T> {
  const leases: ImageLease[] = []
  try {
    for (const named of [{ image }, ...volumes.map(volume => ({ image, volume }))]) {
      const lease = await takeImageLease(area, named, 'exclusive', { withoutFile: true })
      if (lease === undefined) throw new AppError('resource-busy', `${wordsOf(named)} in domain ${area.id} is in use: it is being copied, or read by a copy, or deleted.`)
      leases.push(lease)
    }
    // whoever held one of them before may have written a moment ago
    await outlastOthers(area, { existed: leases.some(({ existed }) => existed) })
    return await work()
  } finally {
    await Promise.all(leases.map(async lease => { await lease.release() }))
  }
}

function childrenError (area: Area, image: string, volume: string, children: readonly string[]): AppError {
  return hasChildren(`Volume ${volume} of image ${image} in domain ${area.id}`, children, 'Nothing was deleted.')
}
