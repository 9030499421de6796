import type { BigIntStats, Dirent } from 'node:fs'
import type { Format } from '../../api/format.ts'
import type { BrokenImage, Copy, ImageEntry, ImageStatus } from '../../api/image.ts'
import { AppError } from '../../errors.ts'
import { entriesIn, look } from '../../system/directory.ts'
import type { Area } from '../area.ts'
import { identityOf, isSameContent } from '../identity.ts'
import { isLeased } from '../lease.ts'
import { formatOfName, isImageName } from '../names.ts'
import { wholeList, type CopiesQuery, type DomainDescription, type Page } from '../protocol.ts'
import { patience } from '../patience.ts'
import { progressOf } from '../record-progress.ts'
import { tellBytes, tellTime } from '../told.ts'
import { isMeantBy, tellableOf } from '../standing.ts'
import { spaceOf } from '../space.ts'
import { mountWarnings } from './mount.ts'
import { copyState, isAskedFor, mayBe } from '../layout/copy-state.ts'
import { soundnessOf } from '../layout/directory/soundness.ts'
import { NameList, namesAfter } from '../layout/name-list.ts'
import { recordReader, recordsOf, type Readable, type ReadRecord } from '../layout/records.ts'
import { firstOf } from '../turns.ts'
import { judge, otherWords, type Found, type Verdict } from './state.ts'

/** Size and free space of a domain, and what is to be said about its mount. */
export async function describe (area: Area): Promise<DomainDescription> {
  const { bytesTotal, bytesFree } = await spaceOf(area, 0)
  const warnings = await mountWarnings(area)
  return { bytesTotal, bytesFree, local: area.local, ...(warnings.length > 0 && { warnings }) }
}

/** A page of the images, by name, from stats alone. */
export async function listImages (area: Area, after: string, limit: number): Promise<ImageEntry[]> {
  const { names } = await listOf(area).get({ directory: area.root, local: area.local })
  return await firstOf(namesAfter(names, after), limit, async image => {
    const stats = await look(area.root, image)
    // gone in the meantime, a directory, a link
    return stats?.isFile() === true ? [entryOf(image, stats)] : []
  })
}

/** A directory with more is somebody's who wants agents to run out of memory. */
const maxImages = 1_000_000

/** The names that may be those of images, of each domain that this process works on. */
const lists = new Map<string, NameList>()

function listOf ({ id, path }: Area): NameList {
  const list = lists.get(path) ?? new NameList(async root => {
    const entries = await entriesIn(root, maxImages, entry => isImageName(entry.name) && mayBeFile(entry))
    if (entries === undefined) throw new AppError('image-invalid', `There are more than ${maxImages} files in domain ${id}: they are not listed.`)
    return entries.map(({ name }) => name)
  })
  lists.set(path, list)
  return list
}

/** Whether a directory says that a name is a file, or, as some file systems do, nothing of what it is. */
function mayBeFile (entry: Dirent): boolean {
  return entry.isFile() || !(entry.isDirectory() || entry.isSymbolicLink() || entry.isFIFO() || entry.isSocket() || entry.isCharacterDevice() || entry.isBlockDevice())
}

function entryOf (image: string, { size, blocks, mtimeMs }: BigIntStats): ImageEntry {
  const format = formatOfName(image)
  return { image, ...(format !== undefined && { format }), fileSize: tellBytes(size), actualSize: Number(blocks) * 512, modifiedAt: tellTime(mtimeMs) }
}

/** Everything the storage says about one image. Throws `image-not-found`. */
export async function imageStatus (area: Area, image: string, given: Format | undefined): Promise<ImageStatus> {
  const found = await patience(area)(async () => await find(area, image), found => judge(found) !== undefined)
  const verdict = judge(found)
  if (found.isOther) throw new AppError('image-invalid', otherWords(found))
  if (verdict === undefined) throw new AppError('image-not-found', `There is no image ${image} in domain ${area.id}.`)
  const { record } = found
  const isOpen = record !== undefined && record.phase !== 'done'
  // a foreign file that took the name of an unfinished copy is not what the record speaks of
  const format = given ?? record?.format ?? formatOfName(image)
  const base = {
    domain: area.id,
    image,
    ...verdict,
    ...(format !== undefined && { format }),
    ...(record !== undefined && { copy: progressOf(tellableOf(record, found.identity)) }),
    observedAt: new Date().toISOString()
  }
  if (isOpen && verdict.state !== 'ok') {
    const part = await look(area.parts, record.copyId) ?? await look(area.root, image)
    return { ...base, virtualSize: record.virtualSize, actualSize: Number(part?.blocks ?? 0n) * 512 }
  }
  return { ...base, ...await measure(area, image, format, verdict) }
}

async function measure (area: Area, image: string, format: Format | undefined, verdict: Verdict): Promise<Pick<ImageStatus, 'actualSize'> & Partial<ImageStatus>> {
  const stats = await look(area.root, image)
  const actualSize = Number(stats?.blocks ?? 0n) * 512
  if (stats === undefined || format === undefined) return { actualSize }
  // a hostile or damaged image is a fact to be told, not a failure of the look
  const { problem, warnings, virtualSize } = await soundnessOf(area, image, format)
  return {
    actualSize,
    ...(virtualSize !== undefined && { virtualSize }),
    ...(problem !== undefined && verdict.state === 'ok' && { state: 'illegal', detail: problem }),
    ...(warnings.length > 0 && { warnings })
  }
}

/** A page of the copy records of the domain, those of complete copies too. */
export async function listCopies (area: Area, { after, limit, taskId, state }: CopiesQuery = wholeList, progressed = ignore): Promise<Copy[]> {
  const { keys, summaryOf, lookAt } = await recorded(area, after)
  return await firstOf(keys, limit, async image => {
    const summary = await summaryOf(image)
    if (summary === undefined || !mayBe(summary, { taskId, state })) return []
    const found = await lookAt(image)
    if (found.record === undefined) return []
    const copy = {
      domain: area.id,
      image,
      state: copyState(found.record, judge(found), found.leased),
      copy: progressOf(tellableOf(found.record, found.identity))
    }
    return isAskedFor(copy, { taskId, state }) ? [copy] : []
  }, progressed)
}

/** A page of what is broken in the domain, and the way out of each. */
export async function listFixes (area: Area, { after, limit }: Page = wholeList, progressed = ignore): Promise<BrokenImage[]> {
  const { keys, summaryOf, lookAt } = await recorded(area, after)
  return await firstOf(keys, limit, async image => {
    // nothing is wrong with most
    if ((await summaryOf(image))?.phase === 'done') return []
    const verdict = judge(await lookAt(image))
    if (verdict === undefined || verdict.fixes.length === 0) return []
    return [{ image, state: verdict.state, detail: verdict.detail ?? '', fixes: verdict.fixes }]
  }, progressed)
}

const ignore = () => {}

/**
 * The images behind a name that have a record, and looks at them. A record whose name is listed is there, or was a moment
 * ago.
 */
async function recorded (area: Area, after: string) {
  const patiently = patience(area)
  const records = recordsOf(area)
  const listing = await patiently(async () => await records.list(area))
  return {
    keys: namesAfter(listing.names, after).filter(isImageName),
    summaryOf: async (image: string) => await records.summary(area, image, listing),
    lookAt: async (image: string) => await patiently(async () => await find(area, image, async key => await records.read(area, key)), isRecorded)
  }
}

function isRecorded ({ record, recordProblem, abandonedWrite }: Found): boolean {
  return record !== undefined || recordProblem !== undefined || abandonedWrite
}

/**
 * Looks at everything there is about an image. The lease is asked before and the record after: the other way round, a
 * copy that ends in between would look interrupted.
 */
async function find (area: Area, image: string, read: ReadRecord = recordReader(area)): Promise<Found> {
  const first = await read(image)
  if (first.record?.phase === 'done' || (first.record === undefined && first.problem === undefined && !first.abandonedWrite)) {
    return await compose(area, image, first, false)
  }
  const leased = await isLeased(area.leases, image)
  return await compose(area, image, await read(image), leased)
}

async function compose (area: Area, image: string, { record, problem, abandonedWrite }: Readable, leased: boolean): Promise<Found> {
  const stats = await look(area.root, image)
  const isOther = stats !== undefined && !stats.isFile()
  const identity = stats === undefined || isOther ? undefined : identityOf(stats)
  return {
    domain: area.id,
    image,
    identity,
    record,
    leased,
    recordProblem: problem?.message,
    isNewer: problem?.code === 'record-newer',
    replaceable: identity !== undefined && record?.replaces !== undefined && isSameContent(record.replaces, identity),
    isMeant: stats === undefined || record?.phase !== 'deleting' || await isMeantBy(record, area.copies, stats),
    isOther,
    abandonedWrite
  }
}
