import type { AppError } from '../../errors.ts'
import type { Area } from '../area.ts'
import {
  hasCutOffWrite, parseRecord, readAnyRecord, readRecordText, recordedKeys, recordProblem, statRecord, type CopyRecord
} from '../record.ts'
import { NameList, type Listing } from './name-list.ts'

/** What a look at a copy record finds. */
export interface Readable {
  record: CopyRecord | undefined
  /** Why it cannot be used. */
  problem: AppError | undefined
  /** An unfinished write is all that is there of it. */
  abandonedWrite: boolean
}

/** Reads the record of an image or volume, by its key. */
export type ReadRecord = (key: string) => Promise<Readable>

/** Reads records from the storage. */
export function recordReader (area: Pick<Area, 'id' | 'copies'>): ReadRecord {
  return async key => {
    const { record, problem } = await readAnyRecord(area.copies, area.id, key)
    return { record, problem, abandonedWrite: record === undefined && problem === undefined && await hasCutOffWrite(area.copies, key) }
  }
}

/**
 * What is kept of a record. Of a complete copy, without the rest: there may be twenty thousand, and a page of them is read
 * again soon enough.
 */
interface Known {
  identity: string
  /** It may have been written once more within the same tick of the clock that its times are taken from. */
  isFresh: boolean
  /** The list that was the latest when it was looked at. */
  listing: Listing | undefined
  /** As it was read; parsed it would take several times the memory. */
  text: string | undefined
  problem: AppError | undefined
  phase: CopyRecord['phase'] | undefined
  taskId: string | undefined
}

const freshMs = 2000

/**
 * The copy records of a domain, for its lists. Nothing is decided by it: who changes something reads the record itself,
 * under its lease. A record is always replaced by a rename, which changes the directory: while that is as it was, nothing
 * has to be looked at.
 */
export class RecordCache {
  readonly #known = new Map<string, Known>()
  readonly #keys: NameList
  #pruned: Listing | undefined

  constructor (id: string) {
    this.#keys = new NameList(async copies => await recordedKeys({ id, copies }))
  }

  /** The keys of all records, sorted, also of such as are only an unfinished write. */
  async list (area: Area): Promise<Listing> {
    const listing = await this.#keys.get({ directory: area.copies, local: area.local })
    if (listing !== this.#pruned && this.#known.size > listing.names.length) {
      const names = new Set(listing.names)
      for (const key of this.#known.keys()) if (!names.has(key)) this.#known.delete(key)
    }
    this.#pruned = listing
    return listing
  }

  /** The phase and the task of a record, without the rest. Undefined where there is no record that can be used. */
  async summary (area: Area, key: string, listing: Listing): Promise<Pick<Known, 'phase' | 'taskId'> | undefined> {
    const known = await this.#look(area, key, listing)
    return known?.problem === undefined ? known : undefined
  }

  /** @param listing a list that was just read; without, the record is looked at in any case. */
  async read (area: Area, key: string, listing?: Listing): Promise<Readable> {
    const known = await this.#look(area, key, listing)
    if (known === undefined) return { record: undefined, problem: undefined, abandonedWrite: await hasCutOffWrite(area.copies, key) }
    if (known.problem !== undefined) return { record: undefined, problem: known.problem, abandonedWrite: false }
    if (known.text === undefined) return await recordReader(area)(key)
    // checked when it was read
    return { record: JSON.parse(known.text) as CopyRecord, problem: undefined, abandonedWrite: false }
  }

  async #look (area: Area, key: string, listing: Listing | undefined): Promise<Known | undefined> {
    const known = this.#known.get(key)
    if (listing?.isSettled === true && known?.listing === listing) return known
    const stats = await statRecord(area.copies, key)
    if (stats === undefined) {
      this.#known.delete(key)
      return undefined
    }
    const identity = `${stats.ino} ${stats.size} ${stats.mtimeNs} ${stats.ctimeNs}`
    if (known?.identity === identity && !known.isFresh) {
      known.listing = listing
      return known
    }
    const isFresh = Math.abs(Date.now() - Number(stats.ctimeMs)) < freshMs
    const next = await read(area, key, { identity, isFresh, listing })
    if (next === undefined) this.#known.delete(key)
    else this.#known.set(key, next)
    return next
  }
}

async function read (area: Area, key: string, base: Pick<Known, 'identity' | 'isFresh' | 'listing'>): Promise<Known | undefined> {
  const none = { text: undefined, phase: undefined, taskId: undefined }
  try {
    const text = await readRecordText(area.copies, key)
    if (text === undefined) return undefined
    const { phase, taskId } = parseRecord(text, area.id, key)
    return { ...base, text: phase === 'done' ? undefined : text, problem: undefined, phase, taskId }
  } catch (error) {
    return { ...base, ...none, problem: recordProblem(error) }
  }
}

/** That of each domain that this process works on. */
const caches = new Map<string, RecordCache>()

export function recordsOf (area: Area): RecordCache {
  const cache = caches.get(area.path) ?? new RecordCache(area.id)
  caches.set(area.path, cache)
  return cache
}
