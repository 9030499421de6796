import { constants } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { AppError } from '../errors.ts'
import { NotAFileError, openFile } from '../system/directory.ts'
import { hasErrno } from '../system/errno.ts'
import type { Area } from './area.ts'
import { isFree, isLeased, takeLease, type Lease } from './lease.ts'
import { keyOf, wordsOf, type Named } from './record.ts'
import { acquireVolume, holderOf, holdsVolume, registered, releaseVolume, type Holder } from './volume-lease.ts'

/** The lease of an image or volume, in whatever way its domain leases. */
export interface ImageLease extends Lease {
  /**
   * Takes what could not be taken before the volume was there. From then on sanlock, too, keeps everybody else away, vdsm
   * among them. Before anything is written into a new volume.
   */
  secure (): Promise<void>
}

/**
 * Takes the lease of an image or volume as `takeLease` does. In a domain with the leases of sanlock that of the volume is
 * taken, too, as vdsm takes it. The lock on our own file stays: it is what two agents have before the volume has a lease,
 * and what keeps out one that is not configured for sanlock.
 *
 * @param options.withoutFile where there is no space for a lease file, go without: for a deletion.
 */
export async function takeImageLease (
  area: Area, named: Named, mode: 'exclusive' | 'shared', { withoutFile = false }: { withoutFile?: boolean } = {}
): Promise<ImageLease | undefined> {
  const { image, volume } = named
  const { local } = area
  const file = async () => await openImage(area, named)
  const own = await takeLease(area.leases, keyOf(named), mode, { local, ...(withoutFile && { withoutFile: { file } }) })
  if (area.leasing === 'flock' || volume === undefined) return own === undefined ? undefined : { ...own, secure: async () => {} }
  const { fd } = registered(area)
  // a dead host may keep a lock for longer than its leases: with NFS 3, until it is back
  if (own === undefined && await holderOf(area, { image, volume }) !== 'dead-host') return undefined
  let isHeld = false
  const take = async () => {
    const taken = await acquireVolume(area, { image, volume }, mode)
    if (taken === 'held') isHeld = true
    return taken
  }
  try {
    if (await take() === 'busy') {
      await own?.release()
      return undefined
    }
  } catch (error) {
    await own?.release()
    throw error
  }
  return {
    fd,
    existed: own?.existed ?? true,
    holds: async () => (own === undefined || area.local || await own.holds()) && (!isHeld || await holdsVolume(area, { image, volume })),
    secure: async () => {
      if (isHeld) return
      const taken = await take()
      if (taken !== 'held') throw new AppError(taken === 'busy' ? 'resource-busy' : 'metadata-invalid', `Volume ${wordsOf(named)} in domain ${area.id} ${taken === 'busy' ? 'is in use' : 'has no .lease'}: nothing was written into it.`)
    },
    release: async () => {
      if (isHeld) await releaseVolume(area, { image, volume })
      await own?.release()
    }
  }
}

/** Opens an image that is a file by itself, if it is there. */
async function openImage ({ layout, root }: Area, { image }: Named): Promise<number | undefined> {
  if (layout !== 'directory') return undefined
  return await openFile(root, image, constants.O_RDONLY).catch((error: unknown) => {
    if (hasErrno(error, 'ENOENT') || error instanceof NotAFileError) return undefined
    throw error
  })
}

/**
 * For a look that changes nothing: a lease that is not held, if it could be taken now. Whoever needs it in earnest gets it
 * meanwhile; what is found holds no longer than that.
 */
export async function lookForImageLease (area: Area, named: Named, mode: 'exclusive' | 'shared'): Promise<ImageLease | undefined> {
  const { image, volume } = named
  const isOwnFree = await isFree(area.leases, keyOf(named), mode)
  if (area.leasing === 'flock' || volume === undefined) return isOwnFree ? unheld : undefined
  const holder = await holderOf(area, { image, volume })
  if (holder === 'dead-host') return unheld
  return isOwnFree && holder !== 'this-host' && holder !== 'other-host' ? unheld : undefined
}

const unheld: ImageLease = { fd: -1, existed: false, holds: async () => true, release: async () => {}, secure: async () => {} }

/** Whether some host is writing this image or volume now. Where that cannot be found out, it is said of it: nothing is offered then that would disturb. */
export async function isImageLeased (area: Area, named: Named): Promise<boolean> {
  const { image, volume } = named
  const isLocked = await isLeased(area.leases, keyOf(named))
  if (area.leasing === 'flock' || volume === undefined) return isLocked
  for (const end = performance.now() + 500; ;) {
    switch (await lookAt(area, { image, volume })) {
      case 'dead-host': return false
      case 'other-host': return true
      case 'nobody': case 'blank': case 'missing': case 'invalid': return isLocked
      // the process that had both has just died, and sanlock is about to notice
      case 'this-host': if (isLocked || performance.now() >= end) return true
    }
    await sleep(50)
  }
}

async function lookAt (area: Area, volume: { image: string, volume: string }): Promise<Holder | 'invalid'> {
  try {
    return await holderOf(area, volume)
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    return error.code === 'metadata-invalid' ? 'invalid' : 'other-host'
  }
}
