import { constants } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { closeFd, look, openFile, openOwnFile, statFd, type Directory } from '../system/directory.ts'
import { removeFile } from '../system/durable.ts'
import { hasErrno } from '../system/errno.ts'
import { lockFd } from '../system/flock.ts'
import { isWithoutFiles, takeWithoutFile, whileMaking } from './lease-making.ts'

/** A lock on an open file, held by everybody who has inherited the descriptor. */
export interface Lease {
  /** To be inherited by every program that writes under the lease: it is free only when the last of them is gone. */
  readonly fd: number
  /** Somebody may have held it before: its file was there. */
  readonly existed: boolean
  /** Whether the lock still holds. After a connection was cut and came back, it may not. */
  holds (): Promise<boolean>
  release (): Promise<void>
}

/** How long a lease is waited for. */
const waitMs = 1000

export interface LeaseOptions {
  /** The file system is this host's alone. */
  local?: boolean
  /**
   * Where no file can be made for want of space, an exclusive lease is taken without. For a deletion, which is how space is
   * made. On a local file system, this file itself is locked, too.
   */
  withoutFile?: { file: () => Promise<number | undefined> }
}

/**
 * Takes the lease of an image: `exclusive` to write it, `shared` to read it. Waits up to a second, because a look at who
 * holds it takes it for an instant; no longer, so that the refusal is the answer to the request that is refused; undefined
 * if somebody has it. The file is made if need be. One that was removed meanwhile (`removeUnusedLease`) is not taken.
 */
export async function takeLease (leases: Directory, image: string, mode: 'exclusive' | 'shared', options: LeaseOptions = {}): Promise<Lease | undefined> {
  for (let tries = 1; ; tries++) {
    const isLast = tries === maxTries
    const lease = await attempt(leases, image, mode, options).catch((error: unknown) => {
      // GlusterFS says so of a file that was removed: ESTALE when it is opened, ENOENT of its lock
      if (isLast || !hasErrno(error, 'ENOENT', 'ESTALE')) throw error
      return 'removed' as const
    })
    if (lease !== 'removed') return lease
    if (isLast) return undefined
    await sleep(retryMs)
  }
}

/** How often a lease is tried whose file is removed just then: other hosts may see its name for a second or two. */
const maxTries = 40
const retryMs = 100

async function attempt (
  leases: Directory, image: string, mode: 'exclusive' | 'shared', { local = true, withoutFile }: LeaseOptions
): Promise<Lease | 'removed' | undefined> {
  const takeWithout = async () => {
    const lease = withoutFile === undefined ? undefined : await takeWithoutFile(leases, image, { local, ...withoutFile })
    // there is one, or somebody has found space for it meanwhile
    return lease === 'has-file' ? { fd: await openOwnFile(leases, image, constants.O_RDWR), existed: true } : lease
  }
  const mayLackFile = withoutFile !== undefined && mode === 'exclusive'
  let fd: number | undefined
  try {
    const opened = mayLackFile && await isWithoutFiles(leases)
      ? await takeWithout()
      : await openLeaseFile(leases, image, mode, local).catch(async (error: unknown) => {
        if (!mayLackFile || !hasErrno(error, 'ENOSPC', 'EDQUOT')) throw error
        return await takeWithout()
      })
    if (opened === undefined || 'release' in opened) return opened
    const { existed } = opened
    const held = opened.fd
    fd = held
    if (!await lockFd(held, mode, waitMs)) {
      await closeFd(held)
      return undefined
    }
    // only the holder of the lock removes the file: one that has its name now keeps it for as long as we have the lock
    if (await hasName(leases, image, held)) {
      return {
        fd: held,
        existed,
        holds: async () => await lockFd(held, mode),
        release: async () => { await closeFd(held) }
      }
    }
  } catch (error) {
    if (fd !== undefined) await closeNameless(fd)
    throw error
  }
  await closeNameless(fd)
  return 'removed'
}

/** Closes a file that may have been removed: GlusterFS fails to give back its lock then, with ENOENT. */
async function closeNameless (fd: number): Promise<void> {
  await closeFd(fd).catch((error: unknown) => { if (!hasErrno(error, 'ENOENT', 'ESTALE')) throw error })
}

/** Whether an open file is the one that has the name now. */
async function hasName (directory: Directory, name: string, fd: number): Promise<boolean> {
  const [found, file] = await Promise.all([look(directory, name), statFd(fd)])
  return found !== undefined && found.ino === file.ino && found.dev === file.dev && file.nlink > 0n
}

/**
 * Removes the file of a lease that nobody has. Whoever has opened it a moment before would lock a file without a name,
 * beside one who makes it again: he finds out by himself (`takeLease`). An older agent does not, and on file systems that
 * hosts share names and numbers are seen late. So the lock must be kept for longer than anybody waits for a lease and
 * any cache is trusted: `forgottenMs`. Returns what ends it, or undefined where somebody has the lease.
 *
 * @param isUnused asked under the lock.
 */
export async function removeUnusedLease (leases: Directory, image: string, isUnused: () => Promise<boolean>): Promise<(() => Promise<void>) | undefined> {
  const fd = await openOwnFile(leases, image, constants.O_RDWR)
  try {
    if (await lockFd(fd, 'exclusive') && await hasName(leases, image, fd) && await isUnused()) {
      await removeFile(leases, image)
      return async () => { await closeNameless(fd) }
    }
  } catch (error) {
    await closeNameless(fd)
    throw error
  }
  await closeNameless(fd)
  return undefined
}

/** How long the lock of a lease file that was removed is kept. */
export const forgottenMs = 10_000

/** Undefined while somebody who has found no space for a lease file works without one: nobody may make one then. */
async function openLeaseFile (
  leases: Directory, image: string, mode: 'exclusive' | 'shared', local: boolean
): Promise<{ fd: number, existed: boolean } | undefined> {
  const open = async () => mode === 'exclusive' ? await openOwnFile(leases, image, constants.O_RDWR) : await openToLook(leases, image)
  try {
    return { fd: await open(), existed: true }
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) throw error
  }
  return await whileMaking(leases, local, async () => {
    try {
      return { fd: await openFile(leases, image, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL), existed: false }
    } catch (error) {
      if (!hasErrno(error, 'EEXIST')) throw error
      return { fd: await open(), existed: true }
    }
  })
}

/** On a read-only file system, too: a template's domain may be mounted so, and a failing disk makes its own so; then above all, people need to see how their images are. */
async function openToLook (leases: Directory, image: string): Promise<number> {
  return await openOwnFile(leases, image, constants.O_RDWR).catch(async (error: unknown) => {
    if (!hasErrno(error, 'EROFS')) throw error
    return await openOwnFile(leases, image, constants.O_RDONLY)
  })
}

/** A shared lock on a file of somebody else's, or what is held of it. */
export interface Probe {
  /** Takes the lock once more, on the same descriptor: false when it was lost and somebody has it now. */
  confirm (): Promise<boolean>
  release (): Promise<void>
}

/** Takes the lock of a file that is there, shared; undefined if somebody has it for himself. Throws ENOENT. */
export async function probe (directory: Directory, name: string): Promise<Probe | undefined> {
  // a shared lock takes no right to write, not with NFS either
  const fd = await openFile(directory, name, constants.O_RDONLY)
  const confirm = async () => await lockFd(fd, 'shared')
  const release = async () => { await closeFd(fd) }
  try {
    if (await confirm()) return { confirm, release }
  } catch (error) {
    await release()
    throw error
  }
  await release()
  return undefined
}

/**
 * Whether a lease could be taken now, for a look that changes nothing: no file is made, and what is taken for an instant is
 * waited for by whoever really wants it.
 */
export async function isFree (leases: Directory, image: string, mode: 'exclusive' | 'shared'): Promise<boolean> {
  let fd
  try {
    // NFS locks exclusively only what is open for writing
    fd = await openFile(leases, image, mode === 'exclusive' ? constants.O_RDWR : constants.O_RDONLY)
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return true
    throw error
  }
  try {
    return await lockFd(fd, mode, waitMs)
  } finally {
    await closeFd(fd)
  }
}

/** Whether some host is writing this image now. Takes the lock for an instant, shared, so that two looks do not disturb each other. */
export async function isLeased (leases: Directory, image: string): Promise<boolean> {
  try {
    const free = await probe(leases, image)
    await free?.release()
    return free === undefined
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return false
    throw error
  }
}

/** Locks a file itself, in addition to the lease. Returns whether it was free. */
export async function lockFile (fd: number): Promise<boolean> {
  return await lockFd(fd, 'exclusive')
}
