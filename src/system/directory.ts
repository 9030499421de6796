import process from 'node:process'
import { promisify } from 'node:util'
import { close, constants, fchmod, fchown, fstat, ftruncate, open, read, type BigIntStats, type Dirent } from 'node:fs'
import { copyFile, lstat, opendir, unlink } from 'node:fs/promises'
import { hasErrno } from './errno.ts'
import { AppError } from '../errors.ts'

// Plain numbers, not FileHandles: a handle that is garbage-collected closes its descriptor, and with it goes its lock.
const openFd = promisify(open)
export const closeFd = promisify(close)
export const truncateFd = promisify(ftruncate)
export const chmodFd = promisify(fchmod)
export const chownFd = promisify(fchown)
const readFd = promisify(read)

/** Size, times and numbers of an open file. */
export const statFd: (fd: number) => Promise<BigIntStats> =
  fd => new Promise((resolve, reject) => { fstat(fd, { bigint: true }, (error, stats) => { if (error === null) resolve(stats); else reject(error) }) })

/** Whose a file is, and what its owner and others may do with it. */
export interface Access {
  mode: number
  /** Nobody asked for the mode: where the storage refuses it (vfat), the file keeps the one that it has. */
  modeOptional?: boolean | undefined
  /** Left as it is when absent: only root can give a file to somebody. */
  owner?: Owner | undefined
}

/** A user and a group. */
export interface Owner {
  uid: number
  gid: number
  /** Nobody asked for it: where the storage refuses it (root_squash, vfat), the file keeps the owner that it has. */
  optional?: boolean
}

/** Whether this process may give files to others. */
export function isRoot (): boolean {
  return process.geteuid?.() === 0
}

/** Sets mode and owner of an open file or directory, whatever the umask is. */
export async function giveAccess (fd: number, { mode, modeOptional = false, owner }: Access): Promise<void> {
  // the mode last: a change of the owner clears bits of it
  if (owner !== undefined) await giveTo(fd, owner)
  await chmodFd(fd, mode).catch((error: unknown) => { if (!modeOptional || !isUnsupported(error)) throw error })
}

/** Whether a file system lacks what was to be set, or forbids it. EINVAL: there is no such user in this user namespace. */
function isUnsupported (error: unknown): boolean {
  return hasErrno(error, 'EPERM', 'EINVAL', 'ENOSYS', 'ENOTSUP')
}

async function giveTo (fd: number, { uid, gid, optional = false }: Owner): Promise<void> {
  const stats = await statFd(fd)
  if (Number(stats.uid) === uid && Number(stats.gid) === gid) return
  try {
    await chownFd(fd, uid, gid)
  } catch (error) {
    if (optional && isUnsupported(error)) return
    if (!hasErrno(error, 'EPERM')) throw error
    const remedy = 'Start the agent as root, export the directory with no_root_squash, or change "owner" in the configuration.'
    throw new AppError('storage-failed', `A file cannot be given to ${uid}:${gid}, the "owner" of its domain: only root can do that, ` +
      `and not on NFS with root_squash. ${remedy}`, { cause: error })
  }
}

/** A directory held open. What is below it is reached through the descriptor, so nobody can swap it in between. */
export interface Directory {
  readonly fd: number
}

/** Opens a directory by its path. Symbolic links in the path are followed: it is the administrator's. */
export async function openDirectory (path: string): Promise<Directory> {
  return { fd: await openFd(path, constants.O_RDONLY | constants.O_DIRECTORY) }
}

/** Opens a directory below another one; a symbolic link is refused. */
export async function openSubdirectory (parent: Directory, name: string): Promise<Directory> {
  return { fd: await openFd(entry(parent, name), constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW) }
}

/**
 * The path of a name in an open directory. It leads through the descriptor like openat(2), which Node does not have.
 * `name` must be a single, checked component.
 */
export function entry (directory: Directory, name: string): string {
  return `/proc/self/fd/${directory.fd}/${name}`
}

/** A name that is there but is no regular file: a link, a directory, a device. */
export class NotAFileError extends Error {
  readonly what: string

  constructor (name: string, what = 'is not a regular file') {
    super(`${name} ${what}`)
    this.what = what
    this.name = 'NotAFileError'
  }
}

/**
 * Opens a regular file in a directory and returns its descriptor. Links are not followed, and nothing but a regular
 * file is accepted; opening a FIFO must not hang, hence O_NONBLOCK. It is looked at first, too: to open a device can do
 * something already, as to rewind a tape or to start a watchdog, and whoever shares the storage could have made one.
 */
export async function openFile (directory: Directory, name: string, flags: number, mode = 0o660): Promise<number> {
  return (await openLooked(directory, name, flags, mode)).fd
}

/** The descriptor, and the file as it was when it was opened. */
async function openLooked (directory: Directory, name: string, flags: number, mode?: number): Promise<{ fd: number, stats: BigIntStats }> {
  if ((flags & constants.O_EXCL) === 0 && (await look(directory, name))?.isFile() === false) throw new NotAFileError(name)
  let fd
  try {
    fd = await openFd(entry(directory, name), flags | constants.O_NOFOLLOW | constants.O_NONBLOCK, mode)
  } catch (error) {
    // ELOOP: a symbolic link; EISDIR: a directory, for writing; ENXIO: a FIFO or a socket
    if (hasErrno(error, 'ELOOP', 'EISDIR', 'ENXIO')) throw new NotAFileError(name)
    throw error
  }
  try {
    const stats = await statFd(fd)
    if (stats.isFile()) return { fd, stats }
    throw new NotAFileError(name)
  } catch (error) {
    await closeFd(fd)
    throw error
  }
}

/**
 * Opens a file that has no business to have another name, such as a record or a lease: a hard link may be one of a file
 * elsewhere. One that was replaced meanwhile has no name at all, and is as good as it was. Throws NotAFileError.
 */
export async function openOwnFile (directory: Directory, name: string, flags: number): Promise<number> {
  return (await openOwn(directory, name, flags)).fd
}

async function openOwn (directory: Directory, name: string, flags: number): Promise<{ fd: number, stats: BigIntStats }> {
  const { fd, stats } = await openLooked(directory, name, flags)
  if (stats.nlink <= 1n) return { fd, stats }
  await closeFd(fd)
  throw new NotAFileError(name, 'has other names, too')
}

/** Reads such a file, at most `limit` bytes of it, as long as it was when it was opened. */
export async function readOwnFile (directory: Directory, name: string, limit: number): Promise<Buffer> {
  const { fd, stats } = await openOwn(directory, name, constants.O_RDONLY)
  try {
    return await readBytes(fd, Math.min(limit, Number(stats.size)))
  } finally {
    await closeFd(fd)
  }
}

/**
 * Whether this name is the only one that an open file has. The number of links alone proves nothing: the one that was
 * opened may be gone by now, and the one that is left may be anywhere.
 */
export async function isOnlyName (directory: Directory, name: string, fd: number): Promise<boolean> {
  const [found, file] = [await look(directory, name), await statFd(fd)]
  return found !== undefined && found.ino === file.ino && found.dev === file.dev && found.nlink <= 1n && file.nlink <= 1n
}

/** open(2), O_TMPFILE without its O_DIRECTORY: Node does not have it. */
const tmpFile = 0o20000000

/**
 * Opens a new file without a name. Where the file system has no such files (NFS, FUSE), it has one for a moment; without
 * one to give, undefined.
 */
export async function openNameless (directory: Directory, name: string | undefined): Promise<number | undefined> {
  try {
    return await openFd(entry(directory, '.'), tmpFile | constants.O_DIRECTORY | constants.O_RDWR, 0o600)
  } catch (error) {
    if (!hasErrno(error, 'EOPNOTSUPP', 'EISDIR', 'ENOENT', 'EINVAL', 'ENOSYS')) throw error
  }
  if (name === undefined) return undefined
  const fd = await openFile(directory, name, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600)
  await unlink(entry(directory, name))
  return fd
}

/**
 * Makes an open, empty file share the data of another one (FICLONE). Throws where the file system cannot. The file gets the
 * mode of the other one; copyFile(3) of libuv would also remove it if it fails, but a descriptor is no name.
 */
export async function cloneFile (source: number, target: number): Promise<void> {
  await copyFile(`/proc/self/fd/${source}`, `/proc/self/fd/${target}`, constants.COPYFILE_FICLONE_FORCE)
}

/** Opens an open file once more, with flags of its own. */
export async function reopenFile (fd: number, flags: number): Promise<number> {
  return await openFd(`/proc/self/fd/${fd}`, flags)
}

/** The stats of a name in a directory, of a link itself; undefined when there is nothing. */
export async function look (directory: Directory, name: string): Promise<BigIntStats | undefined> {
  try {
    return await lstat(entry(directory, name), { bigint: true })
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined
    throw error
  }
}

const pieceBytes = 64 * 1024

/** Reads at most `limit` bytes of an open file, from its start or from `offset` on. */
export async function readBytes (fd: number, limit: number, offset = 0): Promise<Buffer> {
  const pieces: Buffer[] = []
  let length = 0
  // piece by piece: a limit may be far above what there mostly is
  while (length < limit) {
    const piece = Buffer.alloc(Math.min(pieceBytes, limit - length))
    const { bytesRead } = await readFd(fd, piece, 0, piece.length, offset + length)
    if (bytesRead === 0) break
    length += bytesRead
    pieces.push(piece.subarray(0, bytesRead))
  }
  const [first, ...more] = pieces
  return first !== undefined && more.length === 0 ? first : Buffer.concat(pieces)
}

/** Entries that are read from a directory at a time. */
const bufferSize = 1024

/** The names in a directory that pass; undefined when they are more than `most`. On a shared storage there may be millions, made to hurt. */
export async function namesIn (directory: Directory, most: number, passes: (name: string) => boolean = () => true): Promise<string[] | undefined> {
  const names: string[] = []
  for await (const { name } of await opendir(entry(directory, '.'), { bufferSize })) {
    if (!passes(name)) continue
    if (names.length === most) return undefined
    names.push(name)
  }
  return names
}

/** The entries of a directory that pass; undefined when they are more than `most`. */
export async function entriesIn (directory: Directory, most: number, passes: (entry: Dirent) => boolean): Promise<Dirent[] | undefined> {
  const entries: Dirent[] = []
  for await (const found of await opendir(entry(directory, '.'), { bufferSize })) {
    if (!passes(found)) continue
    if (entries.length === most) return undefined
    entries.push(found)
  }
  return entries
}

/** The first `count` names in a directory that pass, sorted, however many there are. */
export async function firstNames (directory: Directory, count: number, passes: (entry: Dirent) => boolean): Promise<string[]> {
  let names: string[] = []
  for await (const found of await opendir(entry(directory, '.'), { bufferSize })) {
    if (!passes(found)) continue
    names.push(found.name)
    if (names.length > 2 * count + bufferSize) names = names.sort().slice(0, count)
  }
  return names.sort().slice(0, count)
}
