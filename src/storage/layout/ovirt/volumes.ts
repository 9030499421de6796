import { constants, type BigIntStats } from 'node:fs'
import { uuidPattern } from '../../../api/names.ts'
import { AppError } from '../../../errors.ts'
import { closeFd, giveAccess, look, namesIn, NotAFileError, openFile, openSubdirectory, readBytes, type Directory } from '../../../system/directory.ts'
import { hasErrno } from '../../../system/errno.ts'
import { linkFile, makeDirectory, openTemporary, removeFile, replaceFile, syncFile } from '../../../system/durable.ts'
import { initialiseLease } from '../../../sanlock/client.ts'
import type { Area } from '../../area.ts'
import { formatVolumeMetadata, parseVolumeMetadata, type VolumeMetadata } from './volume-metadata.ts'

/** What there is of a volume in an image's directory. */
export interface VolumeFiles {
  volume: string
  /** The stats of its data. */
  data: BigIntStats | undefined
  metadata: VolumeMetadata | undefined
  /** Why it, or its `.meta`, cannot be used. */
  problem: AppError | undefined
  /** It has a `.lease`. */
  lease: boolean
  /** An unfinished write of its `.meta`. */
  abandoned: boolean
}

const fileName = new RegExp(`^(${uuidPattern.slice(1, -1)})(\\.meta|\\.lease|\\.meta\\.new)?$`)

/** qemu opens no chain of more than two hundred. Every one of them is read, and compared with the others. */
const maxFiles = 4 * 1000

/** What vdsm puts before the name of an image that it is removing. */
export const removedPrefix = '_remove_me_'

/** vdsm's mode of what belongs to a volume; that of its data is the domain's. */
const fileAccess = ({ owner }: Pick<Area, 'owner'>) => ({ mode: 0o660, owner })

/** Opens the directory of an image; undefined if there is none. */
export async function openImage (area: Area, image: string): Promise<Directory | undefined> {
  try {
    return await openSubdirectory(area.images, image)
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined
    if (hasErrno(error, 'ENOTDIR', 'ELOOP')) throw new AppError('image-invalid', `${image} in domain ${area.id} is no directory: links and files are no images there.`, { cause: error })
    throw error
  }
}

/** Opens the directory of an image for the time of `work`. */
export async function withImage<T> (area: Area, image: string, work: (directory: Directory | undefined) => Promise<T>): Promise<T> {
  const directory = await openImage(area, image)
  try {
    return await work(directory)
  } finally {
    if (directory !== undefined) await closeFd(directory.fd)
  }
}

/** Makes the directory of an image, or opens the one that is there. */
export async function makeImage (area: Area, image: string): Promise<Directory> {
  await makeDirectory(area.images, image, { mode: 0o755, owner: area.owner })
  return await openSubdirectory(area.images, image)
}

/** Reads what there is of every volume of an image, in the order of their names. */
export async function readVolumes (area: Area, image: string, directory: Directory | undefined): Promise<VolumeFiles[]> {
  if (directory === undefined) return []
  const files = await namesIn(directory, maxFiles, name => fileName.test(name))
  if (files === undefined) throw new AppError('image-invalid', `The directory of image ${image} in domain ${area.id} has more than ${maxFiles} files of volumes, more than an image can have: it is not read.`)
  const names = files.flatMap(name => fileName.exec(name)?.[1] ?? [])
  return await Promise.all([...new Set(names)].sort().map(async volume => await readVolume(area, image, directory, volume)))
}

/** Reads what there is of one volume. */
export async function readVolume (area: Area, image: string, directory: Directory, volume: string): Promise<VolumeFiles> {
  const file = `${area.path}/images/${image}/${volume}.meta`
  const [data, lease, abandoned] = await Promise.all([volume, `${volume}.lease`, `${volume}.meta.new`].map(async name => await look(directory, name)))
  const rest = { volume, data, lease: lease !== undefined, abandoned: abandoned !== undefined }
  if (data !== undefined && !data.isFile()) {
    return { ...rest, data: undefined, metadata: undefined, problem: new AppError('image-invalid', `${image}/${volume} in domain ${area.id} is not a regular file: links, directories and devices are no volumes. Nothing was changed.`) }
  }
  try {
    const metadata = await readMetadata(directory, volume, file)
    if (metadata !== undefined && metadata.domain !== area.id) throw new AppError('metadata-invalid', `The metadata file ${file} cannot be used: the key DOMAIN is ${metadata.domain}, not ${area.id}. Nothing was changed.`)
    return { ...rest, metadata, problem: undefined }
  } catch (error) {
    if (!(error instanceof AppError) || error.code !== 'metadata-invalid') throw error
    return { ...rest, metadata: undefined, problem: error }
  }
}

async function readMetadata (directory: Directory, volume: string, file: string): Promise<VolumeMetadata | undefined> {
  let fd
  try {
    fd = await openFile(directory, `${volume}.meta`, constants.O_RDONLY)
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined
    if (error instanceof NotAFileError) throw new AppError('metadata-invalid', `The metadata file ${file} cannot be used: it is not a regular file. Nothing was changed.`, { cause: error })
    throw error
  }
  try {
    // one more than it may have
    return parseVolumeMetadata(await readBytes(fd, 513), file)
  } finally {
    await closeFd(fd)
  }
}

/** Replaces the `.meta` of a volume durably, as a whole. Where it is shared by hard link, the others keep theirs, as with vdsm. */
export async function writeMetadata (area: Area, directory: Directory, volume: string, metadata: VolumeMetadata): Promise<void> {
  await replaceFile(directory, `${volume}.meta`, `${volume}.meta.new`, formatVolumeMetadata(metadata), fileAccess(area))
}

/**
 * Makes the `.lease` of a volume, durably, if there is none. On a file system that hosts share, and where we take it
 * ourselves, it is initialised for sanlock: vdsm could not take one that is not.
 */
export async function makeLease (area: Area, directory: Directory, volume: string): Promise<void> {
  const name = `${volume}.lease`
  if (await look(directory, name) !== undefined) return await removeLeasePart(area, volume)
  // it gets its name when it is whole: one that a crash left half-made would be taken for good
  const part = leasePart(volume)
  const fd = await openTemporary(area.parts, part)
  try {
    if (!area.local || area.leasing === 'sanlock') await initialiseLease(fd, { lockspace: area.id, name: volume }, area.leaseShape)
    await giveAccess(fd, fileAccess(area))
    await syncFile(fd)
    await linkFile(area.parts, part, directory, name)
  } finally {
    await closeFd(fd)
    await removeFile(area.parts, part)
  }
}

const leasePart = (volume: string) => `lease-${volume}`

/** Removes what a crash has left of the making of a lease. */
export async function removeLeasePart (area: Area, volume: string): Promise<void> {
  await removeFile(area.parts, leasePart(volume))
}

/**
 * Removes the files of a volume in vdsm's order, the metadata last: while they are there, and ILLEGAL, everybody sees
 * that there is something left to remove.
 */
export async function removeVolume (directory: Directory, volume: string): Promise<void> {
  for (const name of [volume, `${volume}.lease`, `${volume}.meta.new`, `${volume}.meta`]) await removeFile(directory, name)
}
