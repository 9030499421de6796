import { constants } from 'node:fs'
import { mkdir, statfs } from 'node:fs/promises'
import type { Layout, Leasing } from '../api/domain.ts'
import { AppError } from '../errors.ts'
import type { LeaseShape } from '../sanlock/client.ts'
import {
  closeFd, entry, firstNames, giveAccess, isRoot, look, NotAFileError, openDirectory, openFile, openOwnFile, openSubdirectory, readBytes,
  statFd, type Directory, type Owner
} from '../system/directory.ts'
import { makeDirectory, replaceFile } from '../system/durable.ts'
import { hasErrno } from '../system/errno.ts'
import { deniedWords } from './failure.ts'
import { parseDomainMetadata } from './layout/ovirt/domain-metadata.ts'

/** Where a domain is: what the processes that work on it are told. */
export interface DomainPlace {
  id: string
  path: string
  /** `directory` unless given. */
  layout?: Layout
  /**
   * Owner of what is made there. Unless given, and if we are root: vdsm and kvm in an oVirt domain, in others the owner of
   * the domain's directory.
   */
  owner?: { uid: number, gid: number } | undefined
  /** Permission bits of the images that are made there: 0660 unless given. */
  mode?: number | undefined
  /** `flock` unless given. */
  leases?: Leasing | undefined
}

/** A domain whose directories are held open. */
export interface Area {
  readonly id: string
  readonly path: string
  readonly layout: Layout
  /** Owner of the images that are made there; undefined where only we can be. */
  readonly owner: Owner | undefined
  /** Permission bits of the images that are made there. */
  readonly mode: number
  readonly modeOptional: boolean
  /** What keeps two from writing the same image. */
  readonly leasing: Leasing
  /** How the leases of volumes lie on storage. */
  readonly leaseShape: LeaseShape
  readonly root: Directory
  /** Where its images are. */
  readonly images: Directory
  readonly copies: Directory
  readonly leases: Directory
  readonly parts: Directory
  /** The file system is this host's alone: what is read here cannot be a second old. */
  readonly local: boolean
  /** The file system may be one whose files can share data. */
  readonly clones: boolean
  close (): Promise<void>
}

const home = '.vdsm-tasks'
const marker = 'domain.json'
/** The users vdsm and kvm of oVirt hosts. */
const vdsmOwner = { uid: 36, gid: 36 }
const metadataFile = 'dom_md/metadata'
const rooms = ['copies', 'leases', 'parts'] as const
const hostsRoom = 'hosts'

// statfs(2) magic numbers of file systems on this host's own disks or memory: ext2-4, XFS, Btrfs, tmpfs, ZFS, overlay, F2FS
const localFileSystems = new Set([0xef53, 0x58465342, 0x9123683e, 0x01021994, 0x2fc12fc1, 0x794c7630, 0xf2f52010])
// those that know FICLONE, or may: XFS, Btrfs, ZFS, bcachefs, NFS, OCFS2
const cloningFileSystems = new Set([0x58465342, 0x9123683e, 0x2fc12fc1, 0xca451a4e, 0x6969, 0x7461636f])

/**
 * Opens a domain and makes sure that it is the one it should be. A directory without our marker is refused: an
 * unmounted file system is an empty directory, and nobody may fill it. Throws `domain-unavailable`.
 */
export async function openArea (place: DomainPlace): Promise<Area> {
  const { id, path, layout = 'directory', leases: leasing = 'flock' } = place
  const { mode = 0o660 } = place
  const modeOptional = place.mode === undefined && layout === 'directory'
  let leaseShape: LeaseShape = { sectorBytes: 512, alignBytes: 1024 * 1024 }
  const opened: Directory[] = []
  const keep = (directory: Directory) => { opened.push(directory); return directory }
  const close = async () => { await Promise.all(opened.map(async ({ fd }) => { await closeFd(fd) })) }
  try {
    const root = keep(await openDirectory(path))
    const owner = place.owner ?? (isRoot() ? await defaultOwner(root, layout) : undefined)
    if (layout === 'ovirt') {
      leaseShape = await checkMetadata(root, place)
      await makeRooms(root, owner)
    }
    const images = layout === 'ovirt' ? keep(await openSubdirectory(root, 'images')) : root
    const own = keep(await openSubdirectory(root, home))
    if (layout === 'directory') await checkMarker(own, id, path)
    const copies = keep(await openSubdirectory(own, 'copies'))
    const leases = keep(await openSubdirectory(own, 'leases'))
    const parts = keep(await openSubdirectory(own, 'parts'))
    const { type } = await statfs(entry(root, '.'))
    return { id, path, layout, owner, mode, modeOptional, leasing, leaseShape, root, images, copies, leases, parts, local: localFileSystems.has(type), clones: cloningFileSystems.has(type), close }
  } catch (error) {
    await close()
    if (hasErrno(error, 'EACCES', 'EPERM')) throw new AppError('domain-unavailable', `Domain ${id} in ${path} is not available: ${deniedWords()}`, { cause: error })
    if (hasErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'ENOTCONN', 'ESTALE', 'EHOSTDOWN')) {
      throw new AppError('domain-unavailable', `Domain ${id} is not available: ${path} is not a directory with ${layout === 'ovirt' ? `${metadataFile} and images` : `${home}/${marker}`} in it. Is the file system mounted?${layout === 'ovirt' ? '' : ' "create": true in the configuration makes a new domain in an empty directory.'}`, { cause: error })
    }
    throw error
  }
}

/** Runs `work` on an open domain and closes it, whatever happens. */
export async function withArea<T> (place: DomainPlace, work: (area: Area) => Promise<T>): Promise<T> {
  const area = await openArea(place)
  try {
    return await work(area)
  } finally {
    await area.close()
  }
}

async function checkMarker (own: Directory, id: string, path: string): Promise<void> {
  const unavailable = (what: string, cause?: unknown) =>
    new AppError('domain-unavailable', `Domain ${id} is not available: ${path}/${home}/${marker} ${what}.`, { cause })
  let fd
  try {
    fd = await openOwnFile(own, marker, constants.O_RDONLY)
  } catch (error) {
    if (error instanceof NotAFileError) throw unavailable(error.what, error)
    throw error
  }
  let found: unknown
  try {
    found = JSON.parse((await readBytes(fd, 64 * 1024)).toString())
  } catch (error) {
    throw unavailable('cannot be read as JSON', error)
  } finally {
    await closeFd(fd)
  }
  const foundId = typeof found === 'object' && found !== null && 'id' in found ? found.id : undefined
  if (foundId !== id) throw unavailable(`belongs to domain ${JSON.stringify(foundId)}`)
}

/** Makes sure that this is the oVirt domain it should be: its own metadata are the marker there. Returns what they say of leases. */
async function checkMetadata (root: Directory, { id, path }: DomainPlace): Promise<LeaseShape> {
  const directory = await openSubdirectory(root, 'dom_md')
  try {
    const fd = await openFile(directory, 'metadata', constants.O_RDONLY)
    try {
      const { id: found, leaseShape } = parseDomainMetadata(await readBytes(fd, 64 * 1024), `${path}/${metadataFile}`)
      if (found !== id) throw new AppError('domain-unavailable', `Domain ${id} is not available: ${path}/${metadataFile} belongs to domain ${found}. In the configuration, the id of an oVirt domain is its SDUUID.`)
      return leaseShape
    } finally {
      await closeFd(fd)
    }
  } finally {
    await closeFd(directory.fd)
  }
}

/** A directory belongs to those who are to use its images: libvirt gives volumes the owner of their pool, too. */
async function defaultOwner (root: Directory, layout: Layout): Promise<Owner> {
  if (layout === 'ovirt') return vdsmOwner
  const { uid, gid } = await statFd(root.fd)
  return { uid: Number(uid), gid: Number(gid), optional: true }
}

/** Gives an image that is being made the owner and the mode that its domain wants. */
export async function giveImageAccess ({ owner, mode, modeOptional }: Pick<Area, 'owner' | 'mode' | 'modeOptional'>, fd: number): Promise<void> {
  await giveAccess(fd, { owner, mode, modeOptional })
}

/** Our own directories in a domain that somebody else has made. */
async function makeRooms (root: Directory, owner: Owner | undefined): Promise<void> {
  const access = { mode: 0o755, owner }
  if (await look(root, home) === undefined) await makeDirectory(root, home, access)
  const own = await openSubdirectory(root, home)
  try {
    for (const room of rooms) if (await look(own, room) === undefined) await makeDirectory(own, room, access)
  } finally {
    await closeFd(own.fd)
  }
}

/**
 * Opens the directory of the host files, which is made if need be. Undefined where there is none and none can be made:
 * on a read-only file system, or a full one.
 */
export async function openHosts ({ root, layout, owner }: Area): Promise<Directory | undefined> {
  const own = await openSubdirectory(root, home)
  const access = layout === 'ovirt' ? { mode: 0o755, owner } : undefined
  try {
    const isThere = await look(own, hostsRoom) !== undefined ||
      await makeDirectory(own, hostsRoom, access).then(() => true, () => false)
    return isThere ? await openSubdirectory(own, hostsRoom) : undefined
  } finally {
    await closeFd(own.fd)
  }
}

/**
 * Makes what is missing in a domain: its own directories, and with `create` the marker too, in an empty or missing
 * directory. The marker comes last, so a crash in between leaves a directory that is not yet a domain.
 */
export async function prepareArea ({ id, path, layout }: DomainPlace, create: boolean): Promise<void> {
  // its rooms are made when it is opened: it may be mounted only later
  if (layout === 'ovirt') return
  if (create) await mkdir(path, { recursive: true })
  const root = await openDirectory(path)
  try {
    if (await look(root, home) === undefined) {
      if (!create) return
      // what a fresh file system has in its root
      const foreign = await firstNames(root, 3, ({ name }) => name !== 'lost+found')
      if (foreign.length > 0) {
        throw new AppError('domain-unavailable', `Domain ${id} is not created in ${path}: the directory is not empty (${foreign.join(', ')}). To use it as it is, put ${home}/${marker} with {"id":"${id}"} into it.`)
      }
      await makeDirectory(root, home)
    }
    const own = await openSubdirectory(root, home)
    try {
      const isMarked = await look(own, marker) !== undefined
      if (!isMarked && !create) return
      // a domain of another id is not ours to put anything into
      if (isMarked) await checkMarker(own, id, path)
      for (const room of rooms) await makeDirectory(own, room)
      if (!isMarked) await replaceFile(own, marker, `${marker}.new`, JSON.stringify({ id }) + '\n')
    } finally {
      await closeFd(own.fd)
    }
  } finally {
    await closeFd(root.fd)
  }
}
