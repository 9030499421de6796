import { statFd, type Directory } from '../../system/directory.ts'

/** Times of directories have a tick, and file systems that hosts share show them late. */
const settledMs = 2000

/** The names in a directory, sorted. */
export interface Listing {
  readonly names: readonly string[]
  /** The directory had been as it is for a while: as long as its times stay, so do its names and what they lead to. */
  readonly isSettled: boolean
}

interface Read {
  listing: Listing
  identity: string
}

/** Where a list is read. */
interface Place {
  directory: Directory
  /** The file system is this host's alone: its clock is ours. */
  local: boolean
}

/**
 * The names in a directory, read again only when it has changed: all pages of a list then cost one look. Those who ask
 * while it is being read share the next look, because the one under way may have passed by what they are after.
 */
export class NameList {
  readonly #read: (directory: Directory) => Promise<string[]>
  #last: Read | undefined
  /** Since when the directory is seen as it is. */
  #since = { identity: '', at: 0 }
  #running: Promise<Read> | undefined
  #next: Promise<Read> | undefined

  /** @param read the names that are wanted, in any order. */
  constructor (read: (directory: Directory) => Promise<string[]>) {
    this.#read = read
  }

  async get (place: Place): Promise<Listing> {
    const { identity } = await this.#look(place)
    if (this.#last?.identity === identity && this.#last.listing.isSettled) return this.#last.listing
    return (await (this.#running === undefined ? this.#start(place) : this.#after(this.#running, place))).listing
  }

  async #after (running: Promise<Read>, place: Place): Promise<Read> {
    this.#next ??= running.catch(() => { /* whoever asked for it was told */ }).then(async () => {
      this.#next = undefined
      return await this.#start(place)
    })
    return await this.#next
  }

  async #start (place: Place): Promise<Read> {
    const running = this.#readAll(place)
    this.#running = running
    try {
      this.#last = await running
      return this.#last
    } finally {
      if (this.#running === running) this.#running = undefined
    }
  }

  async #readAll (place: Place): Promise<Read> {
    // before: what changes meanwhile makes it another one
    const { identity, isSettled } = await this.#look(place)
    return { identity, listing: { names: (await this.#read(place.directory)).sort(), isSettled } }
  }

  async #look ({ directory, local }: Place): Promise<{ identity: string, isSettled: boolean }> {
    const { dev, ino, mtimeNs, ctimeNs, mtimeMs } = await statFd(directory.fd)
    const identity = `${dev} ${ino} ${mtimeNs} ${ctimeNs}`
    const now = performance.now()
    if (this.#since.identity !== identity) this.#since = { identity, at: now }
    const seenMs = now - this.#since.at
    return { identity, isSettled: seenMs >= settledMs || (local && Date.now() - Number(mtimeMs) >= settledMs) }
  }
}

/** The names behind this one. */
export function namesAfter (names: readonly string[], after: string): readonly string[] {
  let [low, high] = [0, names.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if ((names[middle] ?? '') > after) high = middle
    else low = middle + 1
  }
  return low === 0 ? names : names.slice(low)
}
