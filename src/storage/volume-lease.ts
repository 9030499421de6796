import { constants } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { AppError } from '../errors.ts'
import type { Leader, Lockspace } from '../sanlock/answers.ts'
import { acquire, holds, initialiseLease, isBusy, isInvalid, readLease, readLockspaces, release, sanlockError, type Resource } from '../sanlock/client.ts'
import { closeFd, openFile, statFd } from '../system/directory.ts'
import { hasErrno } from '../system/errno.ts'
import { syncFile } from '../system/durable.ts'
import { registration, type Registration } from '../system/registration.ts'
import { CommandError } from '../system/run.ts'
import type { Area } from './area.ts'
import { withImage } from './layout/ovirt/volumes.ts'

// sanlock's lease of a volume, as vdsm takes it: the resource that is named like the volume, at the start of its .lease file,
// in the lockspace that is named like the domain.

interface Volume { image: string, volume: string }

/** How long what the daemon says of hosts is good: they die in minutes. */
const knownMs = 500

/**
 * What the `.lease` of a volume says: nobody has it, or this host, or another one that may be alive, or one that sanlock
 * takes for dead; that it is `blank`, as a domain on a local file system has them; or that there is none.
 */
export type Holder = 'nobody' | 'this-host' | 'other-host' | 'dead-host' | 'blank' | 'missing'

/** What this process has, in the order it was taken. */
const held: Resource[] = []
/** The daemon takes one command at a time for a process. */
let turn: Promise<unknown> = Promise.resolve()

async function inTurn<T> (work: () => Promise<T>): Promise<T> {
  const mine = turn.then(work)
  turn = mine.catch(() => { /* told to whoever asked */ })
  return await mine
}

const resourceOf = ({ id, path }: Area, { image, volume }: Volume): Resource => ({ lockspace: id, name: volume, path: `${path}/images/${image}/${volume}.lease` })

/** Reads who has the lease of a volume. */
export async function holderOf (area: Area, volume: Volume): Promise<Holder> {
  const leader = await withLeaseFile(area, volume, constants.O_RDONLY, async fd => {
    if (fd === undefined) return 'missing' as const
    if ((await statFd(fd)).size === 0n) return 'blank' as const
    return await translated(async () => await readLease(fd, resourceOf(area, volume)))
  })
  if (typeof leader === 'string') return leader
  if ('error' in leader) throw refusal(area, volume, leader.error)
  return leader.timestamp === 0 ? 'nobody' : await judge(area, leader)
}

/** A host that may be alive is never asked twice: sanlock would wait for its death, and one of its few threads with it. */
async function judge ({ id }: Area, { ownerId, ownerGeneration }: Leader): Promise<Holder> {
  const lockspace = (await knownLockspaces()).find(({ name }) => name === id)
  if (lockspace === undefined) return 'other-host'
  const owner = lockspace.hosts.get(ownerId)
  // the same host that has left or died since, and come back, has no leases of before
  if (lockspace.hostId === ownerId) return owner !== undefined && owner.generation !== ownerGeneration ? 'dead-host' : 'this-host'
  return owner !== undefined && (owner.state === 'DEAD' || owner.state === 'FREE' || owner.generation > ownerGeneration) ? 'dead-host' : 'other-host'
}

let known: Promise<Lockspace[]> | undefined

/** What the daemon knows of hosts; nothing, if it does not answer. A look at many volumes asks it once. */
async function knownLockspaces (): Promise<Lockspace[]> {
  if (known !== undefined) return await known
  const look = async () => {
    const answer = await readLockspaces().catch((error: unknown) => {
      if (error instanceof CommandError) return undefined
      throw error
    })
    return answer !== undefined && 'lockspaces' in answer ? answer.lockspaces : []
  }
  known = look()
  // who asked is told of a failure; here only time has to pass
  void known.catch(() => {}).then(async () => { await sleep(knownMs, undefined, { ref: false }) }).then(() => { known = undefined })
  return await known
}

/**
 * Takes the lease of a volume for this process. Waits up to a second: what a process of this host held that has just died
 * is free a moment later, and whoever takes one shared has it alone for an instant.
 */
export async function acquireVolume (area: Area, volume: Volume, mode: 'exclusive' | 'shared'): Promise<'held' | 'busy' | 'missing'> {
  const { pid } = registered(area)
  const resource = resourceOf(area, volume)
  for (const end = performance.now() + 1000; ;) {
    const holder = await holderOf(area, volume)
    if (holder === 'missing') return 'missing'
    if (holder === 'blank') {
      // nobody can have one that sanlock cannot read
      if (mode === 'shared') return 'missing'
      await initialise(area, volume)
    }
    if (holder !== 'other-host') {
      const result = await translated(async () => await inTurn(async () => await acquire(resource, mode, pid)))
      if (result >= 0) {
        held.push(resource)
        return 'held'
      }
      if (!isBusy(result)) throw refusal(area, volume, result)
    }
    if (performance.now() >= end) return 'busy'
    await sleep(100)
  }
}

/** Whether this process still has the lease of a volume. */
export async function holdsVolume (area: Area, volume: Volume): Promise<boolean> {
  const mine = registration()
  return mine !== undefined && await inTurn(async () => await holds(resourceOf(area, volume), mine.pid))
}

/** Gives back the lease of a volume. That the process ends does the same, a moment later. */
export async function releaseVolume (area: Area, volume: Volume): Promise<void> {
  await giveBack(resourceOf(area, volume))
}

/** Gives back everything: who looks at once sees it free. Only when nothing writes any more. */
export async function releaseVolumes (): Promise<void> {
  for (const resource of [...held]) await giveBack(resource)
}

async function giveBack (resource: Resource): Promise<void> {
  const mine = registration()
  const index = held.findIndex(({ lockspace, name }) => lockspace === resource.lockspace && name === resource.name)
  if (mine === undefined || index === -1) return
  held.splice(index, 1)
  await inTurn(async () => await release(resource, mine.pid)).catch(() => { /* then the end of the process does it */ })
}

/** Throws unless sanlock knows this process. Every program that writes inherits the descriptor. */
export function registered ({ id }: Pick<Area, 'id'>): Registration {
  const found = registration()
  if (found === undefined) throw new AppError('domain-unavailable', `Domain ${id} has the leases of sanlock, but its daemon did not take the process that works on it. See that sanlock is running on this host, and try again.`)
  return found
}

async function initialise (area: Area, volume: Volume): Promise<void> {
  await withLeaseFile(area, volume, constants.O_RDWR, async fd => {
    // what is not blank any more is somebody's lease, or another file by now
    if (fd === undefined || (await statFd(fd)).size !== 0n) return
    await translated(async () => { await initialiseLease(fd, resourceOf(area, volume), area.leaseShape) })
    await syncFile(fd)
  })
}

async function withLeaseFile<T> (area: Area, { image, volume }: Volume, flags: number, work: (fd: number | undefined) => Promise<T>): Promise<T> {
  return await withImage(area, image, async directory => {
    const fd = directory === undefined
      ? undefined
      : await openFile(directory, `${volume}.lease`, flags).catch((error: unknown) => {
        if (hasErrno(error, 'ENOENT')) return undefined
        throw error
      })
    try {
      return await work(fd)
    } finally {
      if (fd !== undefined) await closeFd(fd)
    }
  })
}

/** What sanlock does not answer is told as what it is. */
async function translated<T> (work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (!(error instanceof CommandError)) throw error
    if (error.notFound) throw new AppError('domain-unavailable', 'The program sanlock is not installed on this host (the package sanlock), or not in the PATH of the agent.', { cause: error })
    throw new AppError('storage-failed', `sanlock failed: ${error.message}`, { cause: error })
  }
}

function refusal (area: Area, { image, volume }: Volume, result: number): AppError {
  const resource = resourceOf(area, { image, volume })
  const of = `The lease of volume ${volume} of image ${image} in domain ${area.id} cannot be taken`
  switch (result) {
    case sanlockError.notJoined: return new AppError('domain-unavailable', `${of}: this host is not in the lockspace of the domain. GET /domains tells why.`)
    case sanlockError.unregistered: return new AppError('domain-unavailable', `${of}: sanlock was started anew meanwhile. Try again.`)
    case sanlockError.absent: return new AppError('domain-unavailable', `${of}: sanlock does not answer, or does not find ${resource.path}. It must run on this host and see the domain at the same path as the agent.`)
    case sanlockError.denied: return new AppError('storage-failed', `${of}: sanlock may not open ${resource.path}. Its user must belong to the group of the file.`)
  }
  if (isInvalid(result)) return new AppError('metadata-invalid', `${of}: ${resource.path} is not a lease of this volume (sanlock says ${result}). If nobody uses the volume, make it anew: sanlock direct init -r '${resource.lockspace}:${resource.name}:${resource.path.replaceAll(':', '\\:')}:0'`)
  return new AppError('storage-failed', `${of}: sanlock says ${result}. Its log tells more.`)
}
