import { constants, type BigIntStats, type Dirent } from 'node:fs'
import { readlink } from 'node:fs/promises'
import { AppError } from '../../../errors.ts'
import { headerBytes } from '../../../qemu/header.ts'
import { firstBytes, pathsIn, referencesIn } from '../../../qemu/references.ts'
import { closeFd, entriesIn, entry, look, NotAFileError, openFile, readBytes, statFd } from '../../../system/directory.ts'
import { hasErrno } from '../../../system/errno.ts'
import type { Area } from '../../area.ts'
import { inodeOf } from '../../identity.ts'
import { inTurns } from '../../turns.ts'
import { nameInDomain, pathsOf } from './paths.ts'

/** What a file of the domain says of others, and how the file was when that was read. */
interface Known {
  identity: string
  references: readonly string[]
  /** It may have been written once more within the same tick of the clock that its times are taken from. */
  isFresh: boolean
}

/** A directory with more is somebody's who wants agents to run out of memory. */
const maxFiles = 1_000_000
const freshMs = 2000
/** In a directory where something happens all the time, the last look has to do. */
const maxTries = 5
/** More links one after the other are followed by no kernel. */
const maxLinks = 40

/**
 * Who is based on whom among the files of a domain's directory, by the headers of qcow2 files. A header is read again only
 * when the identity of its file has changed: a look at 10,000 images is one lstat(2) each.
 *
 * Any file counts, whatever its name says of its format: many a qcow2 image is called `.img`. That a guest writes the header
 * of an overlay into its raw disk keeps an image from being deleted, and that shows; the other mistake loses an image.
 */
export class BackingIndex {
  #files = new Map<string, Known>()
  /** Links and what they lead to. */
  #links = new Map<string, string>()
  #lastRefresh: Promise<void> = Promise.resolve()

  /** The images that are based on this one as the directory is now, by name. */
  async childrenOf (area: Area, image: string): Promise<string[]> {
    await this.#refresh(area)
    const parents = await this.#parents(area)
    const ancestors = ancestorsOf(parents, image)
    // what is based on itself can be used by nobody, and could never be deleted
    return [...parents].filter(([name, bases]) => name !== image && bases.includes(image) && !ancestors.has(name)).map(([name]) => name).sort()
  }

  /** One after the other: a look that began before the question does not answer it. */
  async #refresh (area: Area): Promise<void> {
    const refresh = this.#lastRefresh.catch(() => { /* who asked for that look was told */ }).then(async () => { await this.#look(area) })
    this.#lastRefresh = refresh
    await refresh
  }

  async #look (area: Area): Promise<void> {
    const entries = await steadyEntries(area)
    const files = new Map<string, Known>()
    const links = new Map<string, string>()
    await inTurns(entries, async ({ name }) => {
      const stats = await look(area.root, name)
      if (stats?.isSymbolicLink() === true) links.set(name, await readlink(entry(area.root, name)))
      if (stats?.isFile() === true) files.set(name, await this.#know(area, name, stats))
    })
    this.#files = files
    this.#links = links
  }

  async #know (area: Area, name: string, stats: BigIntStats): Promise<Known> {
    const identity = `${inodeOf(stats)} ${stats.size} ${stats.mtimeNs} ${stats.ctimeNs}`
    const known = this.#files.get(name)
    if (known?.identity === identity && !known.isFresh) return known
    const isFresh = Math.abs(Date.now() - Number(stats.ctimeMs)) < freshMs
    return { identity, isFresh, references: await readReferences(area, name) }
  }

  /** The images that each image is based on, of those that are based on any. */
  async #parents (area: Area): Promise<Map<string, string[]>> {
    const paths = await pathsOf(area)
    const overlays = [...this.#files].filter(([, { references }]) => references.length > 0)
    const byInode = this.#namesByInode()
    return new Map(await inTurns(overlays, async ([name, { references }]): Promise<[string, string[]]> => {
      const names = references.flatMap(pathsIn).flatMap(path => nameInDomain(paths, path) ?? [])
      return [name, (await Promise.all(names.map(async base => await this.#resolve(area, base, paths, byInode)))).flat()]
    }))
  }

  /** The names in the directory that a name opens: that itself, what a link leads to, or, where case does not matter, another spelling. */
  async #resolve (area: Area, name: string, paths: ReadonlySet<string>, byInode: ReadonlyMap<string, string[]>): Promise<string[]> {
    let at = name
    for (let links = 0; links < maxLinks && this.#links.has(at); links++) {
      const next = nameInDomain(paths, this.#links.get(at) ?? '')
      if (next === undefined) return []
      at = next
    }
    if (this.#files.has(at)) return [at]
    const stats = await look(area.root, at)
    return stats === undefined ? [] : byInode.get(inodeOf(stats)) ?? []
  }

  #namesByInode (): Map<string, string[]> {
    const names = new Map<string, string[]>()
    for (const [name, { identity }] of this.#files) {
      const [inode = ''] = identity.split(' ')
      const others = names.get(inode)
      if (others === undefined) names.set(inode, [name])
      else others.push(name)
    }
    return names
  }
}

/** The names that may be those of files. A name that is changed while a directory is read may be seen twice, or not at all: it is read again then. */
async function steadyEntries (area: Area): Promise<Dirent[]> {
  for (let tries = 1; ; tries++) {
    const before = await statFd(area.root.fd)
    const entries = await entriesIn(area.root, maxFiles, mayBeFileOrLink)
    if (entries === undefined) throw tooMany(area)
    const after = await statFd(area.root.fd)
    if (before.mtimeNs === after.mtimeNs || tries === maxTries) return entries
  }
}

function tooMany ({ id }: Area): AppError {
  return new AppError('image-invalid', `There are more than ${maxFiles} files in domain ${id}, more than can be looked at: ` +
    'which of them are based on others is not known. Remove what does not belong there.')
}

/** Whether a directory says that a name is a file or a link, or, as some file systems do, nothing of what it is. */
function mayBeFileOrLink (entry: Dirent): boolean {
  return !(entry.isDirectory() || entry.isFIFO() || entry.isSocket() || entry.isCharacterDevice() || entry.isBlockDevice())
}

/** What an image is based on, down to the base. */
function ancestorsOf (parents: ReadonlyMap<string, readonly string[]>, image: string): Set<string> {
  const found = new Set<string>()
  for (let next = [image]; next.length > 0;) {
    next = next.flatMap(name => parents.get(name) ?? []).filter(name => !found.has(name))
    for (const name of next) found.add(name)
  }
  return found
}

async function readReferences (area: Area, name: string): Promise<string[]> {
  let fd
  try {
    fd = await openFile(area.root, name, constants.O_RDONLY)
  } catch (error) {
    // gone, or something else by now
    if (hasErrno(error, 'ENOENT') || error instanceof NotAFileError) return []
    throw error
  }
  try {
    return referencesIn(await readBytes(fd, firstBytes)) ?? referencesIn(await readBytes(fd, headerBytes)) ?? []
  } finally {
    await closeFd(fd)
  }
}

/** That of each domain that this process works on. */
const indexes = new Map<string, BackingIndex>()

/** The images that are based on this one, as the directory is now. */
export async function childrenOf (area: Area, image: string): Promise<string[]> {
  const index = indexes.get(area.path) ?? new BackingIndex()
  indexes.set(area.path, index)
  return await index.childrenOf(area, image)
}
