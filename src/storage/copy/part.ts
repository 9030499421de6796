import { constants } from 'node:fs'
import type { Allocation, Format } from '../../api/format.ts'
import { AppError } from '../../errors.ts'
import { createCommand, repairLeaksCommand } from '../../qemu/commands.ts'
import { firstClusterBytes, longestImageBytes } from '../../qemu/geometry.ts'
import { headerBytes, invalidImage, parseQcow2Header } from '../../qemu/header.ts'
import { hasState, headerState, type HeaderState } from '../../qemu/header-state.ts'
import { runQemu, runQemuOk } from '../../qemu/run.ts'
import { isCutShort } from '../../qemu/failure.ts'
import { CommandError } from '../../system/run.ts'
import { cloneFile, closeFd, isOnlyName, openFile, readBytes, reopenFile, statFd, truncateFd, type Directory } from '../../system/directory.ts'
import { hasErrno } from '../../system/errno.ts'
import { removeFile, syncData, syncDirectory, syncFile } from '../../system/durable.ts'
import { dropCached } from '../../system/page-cache.ts'
import { giveImageAccess, type Area } from '../area.ts'
import { inodeOf } from '../identity.ts'
import { lockFile } from '../lease.ts'
import { patience } from '../patience.ts'
import { wholeBlocks } from '../whole-blocks.ts'

/** The file that a copy is written to. It gets the image's name only when it is complete. */
export interface Part {
  fd: number
  inode: string
  /** Of qcow2, as it was found to be harmless. */
  header: HeaderState | undefined
  /** Bytes of the file: of a raw one exactly so many, and a qcow2 file never becomes shorter. */
  readonly length: { least: bigint }
}

/** A file that is open, as a part. */
async function partOf (fd: number, header: HeaderState | undefined): Promise<Part> {
  const stats = await statFd(fd)
  return { fd, inode: inodeOf(stats), header, length: { least: stats.size } }
}

export interface PartShape {
  copyId: string
  format: Format
  allocation: Allocation
  virtualSize: number
  clusterSize?: number
  given?: true
  layer?: { format: Format }
}

const qcow2ClusterBytes = 65536

/** Windows are never cut inside a cluster of the target. */
export function clusterBytesOf ({ format, clusterSize }: Pick<PartShape, 'format' | 'clusterSize'>): number {
  return format === 'raw' ? 1 : clusterSize ?? qcow2ClusterBytes
}

/** Makes an empty part, durable with its name. It must not exist. */
export async function createPart (area: Area, { copyId, format, allocation, virtualSize, clusterSize }: PartShape): Promise<Part> {
  const fd = await openFile(area.parts, copyId, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL)
  await giveImageAccess(area, fd)
  await lockPart(area, fd, copyId)
  // past the page cache qemu refuses a file that ends inside a block; the end step cuts a raw part to its size
  const size = format === 'raw' ? wholeBlocks(virtualSize) : virtualSize
  if (format === 'raw' && allocation === 'sparse') await truncateFd(fd, size)
  else await runQemuOk(createCommand({ fd: 3, format }, size, allocation, clusterSize), { fds: [fd], writes: [3], owner: area.owner, workBytes: size, maxOutput: 0 })
  await syncFile(fd)
  await syncDirectory(area.parts)
  return await partOf(fd, format === 'raw' ? undefined : await harmlessHeader(fd, copyId, size))
}

/** The header of a part, which nobody but qemu-img has had a reason to write. Throws `image-invalid`. */
async function harmlessHeader (fd: number, copyId: string, virtualSize: number): Promise<HeaderState> {
  const start = await readBytes(fd, headerBytes)
  const header = parseQcow2Header(start, copyId, Number((await statFd(fd)).size))
  if (header.virtualSize !== virtualSize) throw invalidImage(copyId, `its size is ${header.virtualSize} bytes, not ${virtualSize}`)
  if (header.backing !== undefined) throw invalidImage(copyId, 'it has a backing file, which no copy has')
  return await headerState(fd, copyId, start)
}

/**
 * Makes a part that shares all its data with the source, where the file system can (XFS, Btrfs, NFS 4.2); undefined where
 * it cannot. It must not exist.
 */
export async function clonePart (area: Area, copyId: string, source: { fd: number, header?: HeaderState | undefined }): Promise<Part | undefined> {
  const fd = await openFile(area.parts, copyId, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL)
  try {
    await cloneFile(source.fd, fd)
  } catch {
    // whatever the reason is, windows can do it, or will say why not
    await closeFd(fd)
    await removePart(area, copyId)
    return undefined
  }
  await lockPart(area, fd, copyId)
  // the clone has the source's mode, which may not even let its group write
  await giveImageAccess(area, fd)
  await syncFile(fd)
  await syncDirectory(area.parts)
  return await partOf(fd, source.header)
}

/** Removes a part, whatever it is. */
export async function removePart (area: Area, copyId: string): Promise<void> {
  await removeFile(area.parts, copyId)
}

/** Opens the part of an interrupted copy; undefined if it is missing or not what the record says. */
export async function reopenPart (area: Area, file: { directory: Directory, name: string }, shape: PartShape, inode: string | undefined): Promise<Part | undefined> {
  let fd
  try {
    fd = await patience(area)(async () => await openToLook(area, file))
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined
    throw error
  }
  const stats = await statFd(fd)
  // a record that somebody forged may name a file that has another name elsewhere, where it is not ours to write
  const isSame = inodeOf(stats) === inode && await isOnlyName(file.directory, file.name, fd)
  if (isSame && file.directory === area.parts) fd = await regain(area, fd)
  await lockPart(area, fd, shape.copyId)
  if (isSame) await forgetCached(fd)
  if (isSame && shape.format === 'raw' && fitsRaw(Number(stats.size), shape)) {
    // a run before this one may have come to the end step
    await truncateFd(fd, wholeBlocks(shape.virtualSize))
    return await partOf(fd, undefined)
  }
  const header = isSame && shape.format === 'qcow2' ? await soundHeader(area, fd, Number(stats.size), shape) : undefined
  if (header !== undefined) return await partOf(fd, header)
  await closeFd(fd)
  return undefined
}

/** To read only, as a part is opened first: a run before this one may have given it the mode of the image that it was about to replace. */
async function openToLook (area: Area, { directory, name }: { directory: Directory, name: string }): Promise<number> {
  return await openFile(directory, name, directory === area.parts ? constants.O_RDONLY : constants.O_RDWR)
}

/** Makes an open part one that can be written again: the very file, whatever has its name by now. */
async function regain (area: Area, fd: number): Promise<number> {
  try {
    await giveImageAccess(area, fd)
    return await reopenFile(fd, constants.O_RDWR)
  } finally {
    await closeFd(fd)
  }
}

/**
 * Makes the kernel forget what it holds of a part, so that what is read of it is what is on the storage. Where a flush
 * failed, the cache has what was written, and calls it clean: a table of clusters that qemu-img finds there, and so does
 * not write again, is not on the storage. And ext4 (Linux 6.18, shown by a test) takes what is written again to such a page,
 * says that the flush went well, and keeps the range as unwritten: after the next mount it reads as zeros.
 */
async function forgetCached (fd: number): Promise<void> {
  // only what is clean can be forgotten. What cannot be written belongs to windows that are not done
  await syncData(fd).catch(() => { /* the flushes of this run will tell, if it is still so */ })
  await dropCached(fd)
}

/** The volume that an empty qcow2 file was there for may be longer than what is copied into it: the end step cuts it, too. */
function fitsRaw (size: number, { virtualSize, given, layer }: PartShape): boolean {
  return size >= virtualSize && (size <= wholeBlocks(virtualSize) || (given === true && layer?.format === 'qcow2'))
}

/**
 * A killed writer leaks clusters, up to half the image: they are given back. Anything worse than leaks means that the
 * part cannot be continued. The header is looked at first: on a shared storage it may have been made to name other files,
 * and the file to be longer than any work of ours. Returns the header of a part that is sound.
 */
async function soundHeader ({ owner }: Area, fd: number, fileBytes: number, { copyId, virtualSize }: PartShape): Promise<HeaderState | undefined> {
  try {
    const header = await harmlessHeader(fd, copyId, virtualSize)
    const clusterBytes = firstClusterBytes(header.cluster)
    if (fileBytes > longestImageBytes(virtualSize, clusterBytes)) return undefined
    // it counts who refers to each cluster, in up to 8 bytes, twice
    const extraMemoryBytes = Math.ceil(fileBytes / clusterBytes) * 16
    const checked = await runQemu(repairLeaksCommand(3), { fds: [fd], writes: [3], owner, workBytes: fileBytes, extraMemoryBytes, maxOutput: 0 })
    const { exitCode } = checked
    // a check that did not come to its end is no reason to copy everything anew, unless no sound image makes it work so long
    if (isCutShort(checked) && checked.signal !== 'SIGXCPU') throw new CommandError('qemu-img check was cut short', checked)
    return (exitCode === 0 || exitCode === 3) && await hasState(fd, header) ? header : undefined
  } catch (error) {
    if (error instanceof AppError && error.code === 'image-invalid') return undefined
    throw error
  }
}

/**
 * Locks the part itself, too: a lease file that somebody removed by hand must not let two writers in. An orphaned
 * qemu-img of a killed worker has the descriptor; it is gone within moments. Not on GlusterFS and NFS: there, flock and
 * fcntl are the same lock, and ours would refuse qemu's own, which is what makes its late writes fail (see Copier).
 */
async function lockPart ({ local }: Area, fd: number, copyId: string): Promise<void> {
  if (local && !await lockFile(fd)) throw new AppError('resource-busy', `The part ${copyId} is being written by another process.`)
}
