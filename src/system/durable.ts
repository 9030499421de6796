import process from 'node:process'
import { getSystemErrorName, promisify } from 'node:util'
import { constants, fdatasync, fsync, write } from 'node:fs'
import { link, mkdir, readdir, rename, rmdir, unlink } from 'node:fs/promises'
import { AppError } from '../errors.ts'
import { makeDirectoryCommand, mayBecomeOthers } from './confine.ts'
import { closeFd, entry, giveAccess, look, openFile, openSubdirectory, statFd, type Access, type Directory } from './directory.ts'
import { hasErrno } from './errno.ts'
import { runOk } from './run.ts'

const writeFd = promisify(write)

/** Makes the content of an open file durable. An error is final: the kernel may have dropped the pages, so a second call proves nothing. */
export const syncData = promisify(fdatasync)

/** Makes an open file durable, its size and times included. */
export const syncFile = promisify(fsync)

/** Makes the names in a directory durable: what was created, linked, renamed or removed there. */
export async function syncDirectory (directory: Directory): Promise<void> {
  await syncFile(directory.fd)
}

/** Writes over the start of an open file. Nothing is durable yet. */
export async function writeOver (fd: number, content: string | Buffer): Promise<void> {
  const bytes = typeof content === 'string' ? Buffer.from(content) : content
  for (let at = 0; at < bytes.length;) at += (await writeFd(fd, bytes, at, bytes.length - at, at)).bytesWritten
}

/**
 * Replaces a small file as a whole: after a crash at any instant there is the old content or the new, never half.
 * The order is restic's and everybody's: write beside it, fsync, rename, fsync the directory.
 * The name of the temporary file is fixed, so a crash leaves at most one, which the next write removes.
 */
export async function replaceFile (directory: Directory, name: string, temporary: string, content: string | Buffer, access?: Access): Promise<void> {
  const fd = await openTemporary(directory, temporary)
  try {
    try {
      if (access !== undefined) await giveAccess(fd, access)
      await writeOver(fd, content)
      await syncFile(fd)
    } finally {
      await closeFd(fd)
    }
    await rename(entry(directory, temporary), entry(directory, name))
  } catch (error) {
    await unlink(entry(directory, temporary)).catch(() => { /* the first error is the one to tell */ })
    throw error
  }
  await syncDirectory(directory)
}

/** Times that a name is removed which somebody puts back at once. */
const maxTries = 5

/** Makes a new file in which nobody else can have anything. What has its name is a leftover, or a trap, and is removed. */
export async function openTemporary (directory: Directory, name: string): Promise<number> {
  for (let tries = 1; ; tries++) {
    try {
      return await openFile(directory, name, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o660)
    } catch (error) {
      if (!hasErrno(error, 'EEXIST') || tries === maxTries) throw error
    }
    await unlink(entry(directory, name)).catch((error: unknown) => { if (!hasErrno(error, 'ENOENT')) throw error })
  }
}

/** Gives a file a second name in another directory, durably. Never replaces one: EEXIST is thrown, unless it has that name already. */
export async function linkFile (from: Directory, name: string, to: Directory, newName: string): Promise<void> {
  try {
    await link(entry(from, name), entry(to, newName))
  } catch (error) {
    // an NFS server that made the link and died before it could say so is asked again, and says that it exists: link(2), BUGS
    if (!hasErrno(error, 'EEXIST') || !await isSameFile(from, name, to, newName)) throw error
  }
  await syncDirectory(to)
}

async function isSameFile (from: Directory, name: string, to: Directory, newName: string): Promise<boolean> {
  const [file, there] = await Promise.all([look(from, name), look(to, newName)])
  return file !== undefined && file.ino === there?.ino && file.dev === there.dev
}

/** Moves a file to a name in another directory, durably. Whatever had that name is replaced, in one step. */
export async function replaceByMove (from: Directory, name: string, to: Directory, newName: string): Promise<void> {
  await rename(entry(from, name), entry(to, newName))
  await syncDirectory(to)
  await syncDirectory(from)
}

/** Removes a name durably. Returns whether it was there. */
export async function removeFile (directory: Directory, name: string): Promise<boolean> {
  try {
    await unlink(entry(directory, name))
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return false
    throw error
  }
  await syncDirectory(directory)
  return true
}

/** Makes a directory below another one if nothing has its name, durably. Who may use it is set only if it is made. */
export async function makeDirectory (parent: Directory, name: string, access?: Access): Promise<void> {
  try {
    if (access === undefined) await mkdir(entry(parent, name), 0o770)
    else await makeOwned(parent, name, access)
  } catch (error) {
    if (!hasErrno(error, 'EEXIST')) throw error
  }
  await syncDirectory(parent)
}

/**
 * Makes a directory as the user that it is to belong to. To make it as root and to give it away then is a trap: whoever may
 * write to the parent can exchange it in between for something that he wants to have.
 */
async function makeOwned (parent: Directory, name: string, access: Access): Promise<void> {
  const { mode, owner } = access
  if (owner === undefined || mayBecomeOthers()) {
    const { exitCode, stdout } = await runOk(makeDirectoryCommand(name, mode, owner), { fds: [parent.fd], accept: [1] })
    if (exitCode === 0) return
    const errno = -Number(stdout)
    const code = getSystemErrorName(errno)
    const error = Object.assign(new Error(`${code}: mkdir ${name}`), { code, errno })
    // a parent that this user may not write to, or a file system that is open to root alone
    if (owner === undefined || !hasErrno(error, 'EACCES', 'EPERM')) throw error
  }
  await makeAndGive(parent, name, access)
}

/** Makes a directory and gives it to its user, if it is what was made: ours, open to nobody else so far, and empty. */
async function makeAndGive (parent: Directory, name: string, access: Access): Promise<void> {
  await mkdir(entry(parent, name), 0o700)
  const made = await openSubdirectory(parent, name)
  try {
    const { uid, mode } = await statFd(made.fd)
    const isOurs = Number(uid) === process.geteuid?.() && (Number(mode) & 0o777) === 0o700 && (await readdir(entry(made, '.'))).length === 0
    if (!isOurs) throw new AppError('storage-failed', `Another program has exchanged the directory ${name} while it was being made. Nothing was given to anybody. Find out who writes to the domain, and try again.`)
    await giveAccess(made.fd, access)
  } finally {
    await closeFd(made.fd)
  }
}

/** Removes an empty directory durably. Returns whether it is gone: one that is not empty stays. */
export async function removeDirectory (parent: Directory, name: string): Promise<boolean> {
  try {
    await rmdir(entry(parent, name))
  } catch (error) {
    if (hasErrno(error, 'ENOTEMPTY', 'EEXIST')) return false
    if (!hasErrno(error, 'ENOENT')) throw error
  }
  await syncDirectory(parent)
  return true
}
