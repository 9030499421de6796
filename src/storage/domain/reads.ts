import type { BigIntStats, Dirent } from 'node:fs'
import { statfs } from 'node:fs/promises'
import type { Format } from '../../api/format.ts'
import type { BrokenImage, Copy, ImageEntry, ImageStatus } from '../../api/image.ts'
import { AppError } from '../../errors.ts'
import { entry, firstNames, look } from '../../system/directory.ts'
import type { Area } from '../area.ts'
import { identityOf, isSameContent } from '../identity.ts'
import { isLeased } from '../lease.ts'
import { formatOfName, isImageName } from '../names.ts'
import type { DomainDescription } from '../protocol.ts'
import { patience } from '../patience.ts'
import { progressOf } from '../record-progress.ts'
import { hasCutOffWrite, readAnyRecord, recordedKeys, type CopyRecord } from '../record.ts'
import { tellBytes, tellTime } from '../told.ts'
import { isMeantBy, tellableOf } from '../standing.ts'
import { mountWarnings } from './mount.ts'
import { copyState } from '../layout/copy-state.ts'
import { soundnessOf } from '../layout/directory/soundness.ts'
import { judge, type Found, type Verdict } from './state.ts'

/** Size and free space of a domain, and what is to be said about its mount. */
export async function describe (area: Area): Promise<DomainDescription> {
  const { blocks, bavail, bsize } = await statfs(entry(area.root, '.'))
  const warnings = await mountWarnings(area)
  return { bytesTotal: blocks * bsize, bytesFree: bavail * bsize, local: area.local, ...(warnings.length > 0 && { warnings }) }
}

/** A page of the images, by name, from stats alone. */
export async function listImages (area: Area, after: string, limit: number): Promise<ImageEntry[]> {
  const images: ImageEntry[] = []
  for (let last = after; ;) {
    const from = last
    const names = await firstNames(area.root, limit, entry => isImageName(entry.name) && entry.name > from && mayBeFile(entry))
    for (const image of names) {
      if (images.length === limit) return images
      const stats = await look(area.root, image)
      // gone in the meantime, a directory, a link
      if (stats?.isFile() === true) images.push(entryOf(image, stats))
    }
    const end = names.at(-1)
    if (end === undefined || names.length < limit) return images
    last = end
  }
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

/** Every copy record of the domain, those of complete copies too. */
export async function listCopies (area: Area): Promise<Copy[]> {
  const copies: Copy[] = []
  for await (const found of recorded(area)) {
    const { image } = found
    if (found.record === undefined) continue
    copies.push({ domain: area.id, image, state: copyState(found.record, judge(found), found.leased), copy: progressOf(tellableOf(found.record, found.identity)) })
  }
  return copies
}

/** What is broken in the domain, and the way out of each. */
export async function listFixes (area: Area): Promise<BrokenImage[]> {
  const broken: BrokenImage[] = []
  for await (const found of recorded(area)) {
    const verdict = judge(found)
    if (verdict === undefined || verdict.fixes.length === 0) continue
    broken.push({ image: found.image, state: verdict.state, detail: verdict.detail ?? '', fixes: verdict.fixes })
  }
  return broken
}

/** What there is about every image that has a record. A record whose name is listed is there, or was a moment ago. */
async function * recorded (area: Area): AsyncGenerator<Found> {
  const patiently = patience(area)
  for (const image of (await patiently(async () => await recordedKeys(area))).filter(isImageName)) {
    yield await patiently(async () => await find(area, image), ({ record, recordProblem, abandonedWrite }) => record !== undefined || recordProblem !== undefined || abandonedWrite)
  }
}

/**
 * Looks at everything there is about an image. The lease is asked before and the record after: the other way round, a
 * copy that ends in between would look interrupted.
 */
async function find (area: Area, image: string): Promise<Found> {
  const first = await readable(area, image)
  if (first.record?.phase === 'done' || (first.record === undefined && first.problem === undefined && !first.abandonedWrite)) {
    return await compose(area, image, first, false)
  }
  const leased = await isLeased(area.leases, image)
  return await compose(area, image, await readable(area, image), leased)
}

async function compose (area: Area, image: string, { record, problem, isNewer, abandonedWrite }: Readable, leased: boolean): Promise<Found> {
  const stats = await look(area.root, image)
  if (stats !== undefined && !stats.isFile()) throw new AppError('image-invalid', `${image} in domain ${area.id} is not a regular file: links, directories and devices are no images.`)
  const replaceable = stats !== undefined && record?.replaces !== undefined && isSameContent(record.replaces, identityOf(stats))
  const identity = stats === undefined ? undefined : identityOf(stats)
  const isMeant = stats === undefined || record?.phase !== 'deleting' || await isMeantBy(record, area.copies, stats)
  return { domain: area.id, image, identity, record, leased, recordProblem: problem, isNewer, replaceable, isMeant, abandonedWrite }
}

interface Readable {
  record: CopyRecord | undefined
  problem: string | undefined
  isNewer: boolean
  abandonedWrite: boolean
}

async function readable (area: Area, image: string): Promise<Readable> {
  const { record, problem } = await readAnyRecord(area.copies, area.id, image)
  const abandonedWrite = record === undefined && problem === undefined && await hasCutOffWrite(area.copies, image)
  return { record, problem: problem?.message, isNewer: problem?.code === 'record-newer', abandonedWrite }
}
