import { constants } from 'node:fs'
import { closeFd, look, openFile, openSubdirectory, statFd, type Directory } from '../system/directory.ts'
import { lockFd } from '../system/flock.ts'
import type { Lease } from './lease.ts'

// On a storage that is full, or has no inode left, no lease file can be made, and yet images must be deleted there. Whoever
// does so without a lease file must exclude those who may find space for one. So there is one lock for the making of lease
// files in a domain: who makes one has it shared for that instant, and who goes without has it alone until he is done. He
// looks for the file once more when he has it: afterwards, nobody can make one.

/** Where the file system is shared: no image can be called so. NFS locks exclusively only what is open for writing, and so no directory. */
const makingName = '.making'
/** As long as for a lease. */
const waitMs = 1000

async function openMaking (leases: Directory, local: boolean): Promise<number> {
  // a descriptor of its own: locks belong to those
  if (local) return (await openSubdirectory(leases, '.')).fd
  return await openFile(leases, makingName, constants.O_RDWR | constants.O_CREAT)
}

/** Makes a lease file, unless somebody works without one; then undefined, after a second. */
export async function whileMaking<T> (leases: Directory, local: boolean, make: () => Promise<T>): Promise<T | undefined> {
  const fd = await openMaking(leases, local)
  try {
    return await lockFd(fd, 'shared', waitMs) ? await make() : undefined
  } finally {
    await closeFd(fd)
  }
}

interface Held {
  fd: number
  images: Set<string>
}

/** What this process has, by the directory of the leases: it works on several images at once. */
const held = new Map<string, Held>()
let turn: Promise<unknown> = Promise.resolve()

const keyOf = async ({ fd }: Directory): Promise<string> => {
  const { dev, ino } = await statFd(fd)
  return `${dev}:${ino}`
}

/** Whether this process works without lease files at the moment: until it is done, it makes none either. */
export async function isWithoutFiles (leases: Directory): Promise<boolean> {
  return held.has(await keyOf(leases))
}

/**
 * Takes the exclusive lease of an image that has no lease file, and for which none can be made: nobody has ever had it.
 * Undefined if somebody else has it so, or just makes lease files; `has-file` if there is one by now.
 *
 * @param file opens the image itself, if there is one.
 */
export async function takeWithoutFile (
  leases: Directory, image: string, options: { local: boolean, file: () => Promise<number | undefined> }
): Promise<Lease | 'has-file' | undefined> {
  const mine = turn.then(async () => await take(leases, image, options))
  turn = mine.catch(() => { /* told to whoever asked */ })
  return await mine
}

async function take (
  leases: Directory, image: string, { local, file }: { local: boolean, file: () => Promise<number | undefined> }
): Promise<Lease | 'has-file' | undefined> {
  const key = await keyOf(leases)
  const making = held.get(key) ?? await lockMaking(leases, local)
  if (making === undefined || making.images.has(image)) return undefined
  held.set(key, making)
  making.images.add(image)
  const letGo = async () => {
    making.images.delete(image)
    if (making.images.size > 0) return
    held.delete(key)
    await closeFd(making.fd)
  }
  try {
    if (await look(leases, image) !== undefined) {
      await letGo()
      return 'has-file'
    }
    // where flock and the locks of qemu are the same, ours would refuse our own look whether the image is in use
    const own = local ? await file() : undefined
    if (own !== undefined && !await lockFd(own, 'exclusive')) {
      await closeFd(own)
      await letGo()
      return undefined
    }
    return {
      fd: making.fd,
      existed: true,
      holds: async () => await lockFd(making.fd, 'exclusive'),
      release: async () => {
        if (own !== undefined) await closeFd(own)
        await letGo()
      }
    }
  } catch (error) {
    await letGo()
    throw error
  }
}

async function lockMaking (leases: Directory, local: boolean): Promise<Held | undefined> {
  const fd = await openMaking(leases, local)
  try {
    if (await lockFd(fd, 'exclusive', waitMs)) return { fd, images: new Set() }
  } catch (error) {
    await closeFd(fd)
    throw error
  }
  await closeFd(fd)
  return undefined
}
