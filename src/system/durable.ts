import { promisify } from 'node:util'
import { constants, fdatasync, fsync, write } from 'node:fs'
import { link, mkdir, rename, rmdir, unlink } from 'node:fs/promises'
import { closeFd, entry, giveAccess, look, openDirectory, openFile, type Access, type Directory } from './directory.ts'
import { hasErrno } from './errno.ts'

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
 * The name of the temporary file is fixed, so a crash leaves at most one, which the next write uses again.
 */
export async function replaceFile (directory: Directory, name: string, temporary: string, content: string | Buffer, access?: Access): Promise<void> {
  const fd = await openFile(directory, temporary, constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC, 0o660)
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

/** Makes a directory below another one if it is not there, durably. Who may use it is set only if it is made. */
export async function makeDirectory (parent: Directory, name: string, access?: Access): Promise<void> {
  try {
    await mkdir(entry(parent, name), 0o770)
    if (access !== undefined) {
      const { fd } = await openDirectory(entry(parent, name))
      try {
        await giveAccess(fd, access)
      } finally {
        await closeFd(fd)
      }
    }
  } catch (error) {
    if (!hasErrno(error, 'EEXIST')) throw error
  }
  await syncDirectory(parent)
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
