import { constants, type Dirent } from 'node:fs'
import { lstat, open, opendir, type FileHandle } from 'node:fs/promises'
import { runOk } from '../../system/run.ts'
import type { BrickContent } from './contract.ts'

/** Gluster's own directory at the root of every brick. */
const ownDirectory = '.glusterfs'
const exampleCount = 3
/** Directories that are read at the same time: each answer comes over the network. */
const readers = 4
const namesAtOnce = 1024
/** Link files that one run of getfattr is given. */
const candidatesAtOnce = 64
/** A descriptor that stands for a name and opens nothing: Linux's O_PATH, which Node does not name. */
const openPath = 0o10000000
/** What DHT gives a link file: a sticky bit and no permission. A user's file may look the same. */
const linkMode = constants.S_IFREG | 0o1000
/** What DHT adds to the mode of a file while it moves it. */
const movingMode = 0o3000
const linkAttribute = 'trusted.glusterfs.dht.linkto'

/**
 * Counts what is on a brick, whose root is mounted at `root`. `progressed` is called with every answer of the brick.
 *
 * Paths are kept in Latin-1, in which every byte is a character: file names need not be UTF-8.
 */
export async function walkBrick (root: string, progressed: () => void): Promise<BrickContent> {
  const walk = new Walk(Buffer.from(root).toString('latin1'), progressed)
  return await walk.run()
}

class Walk {
  readonly #root: string
  readonly #progressed: () => void
  readonly #content: BrickContent = { files: 0, directories: 0, links: 0, halfMoved: 0, examples: [] }
  /** Directories, relative to the root, that are still to be read. */
  readonly #directories = ['']
  #busy = 0
  #wake = new AbortController()

  constructor (root: string, progressed: () => void) {
    this.#root = root
    this.#progressed = progressed
  }

  async run (): Promise<BrickContent> {
    await Promise.all(Array.from({ length: readers }, async () => { await this.#read() }))
    return this.#content
  }

  async #read (): Promise<void> {
    while (true) {
      const directory = this.#directories.pop()
      if (directory !== undefined) await this.#busily(directory)
      else if (this.#busy === 0) return
      else await new Promise(resolve => { this.#wake.signal.addEventListener('abort', resolve, { once: true }) })
    }
  }

  async #busily (directory: string): Promise<void> {
    this.#busy++
    try {
      await this.#readDirectory(directory)
    } finally {
      this.#busy--
      this.#wake.abort()
      this.#wake = new AbortController()
    }
  }

  async #readDirectory (directory: string): Promise<void> {
    const candidates: string[] = []
    const handle = await unlessGone(opendir(this.#place(directory), { encoding: 'latin1', bufferSize: namesAtOnce }))
    if (handle === undefined) return
    this.#content.directories++
    for await (const item of handle) {
      this.#progressed()
      if (directory === '' && item.name === ownDirectory) continue
      if (await this.#mayBeLink(`${directory}/${item.name}`, item)) candidates.push(`${directory}/${item.name}`)
      if (candidates.length >= candidatesAtOnce) await this.#settle(candidates.splice(0))
    }
    await this.#settle(candidates)
  }

  /** Takes note of an entry, unless it may be a link file. */
  async #mayBeLink (path: string, item: Dirent): Promise<boolean> {
    // some file systems do not tell types with names
    const isKnown = item.isDirectory() || item.isFile() || item.isSymbolicLink()
    if (item.isDirectory()) {
      this.#directories.push(path)
      return false
    }
    if (isKnown && !item.isFile()) return this.#count(path)
    const stats = await unlessGone(lstat(this.#place(path)))
    this.#progressed()
    if (stats === undefined) return false
    if (stats.isDirectory()) {
      this.#directories.push(path)
      return false
    }
    if ((stats.mode & movingMode) === movingMode) this.#content.halfMoved++
    return (stats.mode === linkMode && stats.size === 0) || this.#count(path)
  }

  #count (path: string): false {
    this.#content.files++
    if (this.#content.examples.length < exampleCount) this.#content.examples.push(Buffer.from(path, 'latin1').toString())
    return false
  }

  /** Tells link files from users' files that look like them. */
  async #settle (candidates: readonly string[]): Promise<void> {
    if (candidates.length === 0) return
    const handles: FileHandle[] = []
    try {
      const there: string[] = []
      for (const path of candidates) {
        const handle = await unlessGone(open(this.#place(path), openPath | constants.O_NOFOLLOW))
        if (handle === undefined) continue
        handles.push(handle)
        there.push(path)
      }
      const linked = await linkFiles(handles)
      this.#progressed()
      for (const [index, path] of there.entries()) {
        if (linked.has(index)) this.#content.links++
        else this.#count(path)
      }
    } finally {
      await Promise.all(handles.map(async handle => { await handle.close() }))
    }
  }

  #place (path: string): Buffer {
    return Buffer.from(this.#root + path, 'latin1')
  }
}

/** Which of the open files have the attribute of a link file. Descriptors are handed over: a name may be any bytes. */
async function linkFiles (handles: readonly FileHandle[]): Promise<Set<number>> {
  if (handles.length === 0) return new Set()
  const paths = handles.map((_, index) => `/proc/self/fd/${index + 3}`)
  // it ends with 1 when some of the files do not have the attribute
  const { stdout, stderr } = await runOk(['getfattr', '--absolute-names', '--encoding=hex', `--name=${linkAttribute}`, '--', ...paths], {
    fds: handles.map(({ fd }) => fd), accept: [1]
  })
  const trouble = stderr.split('\n').find(line => line.trim() !== '' && !line.endsWith('No such attribute'))
  if (trouble !== undefined) throw new Error(trouble)
  return new Set([...stdout.matchAll(/^# file: \/proc\/self\/fd\/(\d+)$/gm)].map(([, fd]) => Number(fd) - 3))
}

/** Undefined for what was removed since its name was read. */
async function unlessGone<T> (work: Promise<T>): Promise<T | undefined> {
  try {
    return await work
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw error
  }
}
