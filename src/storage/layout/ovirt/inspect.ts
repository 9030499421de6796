import { uuidPattern } from '../../../api/names.ts'
import { AppError } from '../../../errors.ts'
import { look, namesIn } from '../../../system/directory.ts'
import type { Area } from '../../area.ts'
import { isImageLeased } from '../../image-lease.ts'
import { keyOf, namedBy, recordedKeys, recordWrittenAt, type CopyRecord, type Named } from '../../record.ts'
import { isMeantBy } from '../../standing.ts'
import { inTurns } from '../../turns.ts'
import { clean, forget } from '../copy-state.ts'
import { recordReader, type Readable, type ReadRecord } from '../records.ts'
import { childrenOf, cycleAmong, cycleDetail, missingParentDetail } from './chain.ts'
import { judgeVolume, type FoundVolume, type Verdict } from './volume-state.ts'
import { readVolume, readVolumes, removedPrefix, withImage, type VolumeFiles } from './volumes.ts'

/** How records are read. */
interface Records {
  read?: ReadRecord
  chains?: () => Promise<CopyRecord[]>
}

/** An image with all its volumes, as a look at the storage finds it. */
export interface FoundImage {
  image: string
  /** Its directory is there. */
  exists: boolean
  volumes: Array<{ found: FoundVolume, children: string[], verdict: Verdict }>
  /** Volumes of which nothing is left but the record of a complete copy. */
  gone: FoundVolume[]
  /** What is to be said of the image as a whole. */
  verdict?: Verdict
}

/** Each is looked at, and more than that would be rubbish, made to hurt. */
const maxImages = 200_000
const imageDirectory = new RegExp(`^(${removedPrefix})?${uuidPattern.slice(1, -1)}$`)

/** Whatever else lies among the images, `lost+found` for one, is nothing that vdsm would look at. */
export const isImageDirectory = (name: string) => imageDirectory.test(name)

/** The names of all images that have a directory, sorted. Those that vdsm is removing are among them. */
export async function imageNames (area: Pick<Area, 'id' | 'images'>): Promise<string[]> {
  const names = await namesIn(area.images, maxImages, isImageDirectory)
  if (names === undefined) throw new AppError('image-invalid', `Domain ${area.id} has more than ${maxImages} images, more than an engine makes: they are not all looked at.`)
  return names.sort()
}

/** The volumes that have a record, by image; an empty name stands for the image itself. */
export async function recordedVolumes (area: Area): Promise<Map<string, string[]>> {
  return volumesByImage(await recordedKeys(area))
}

/** The keys of records, by image. */
export function volumesByImage (keys: readonly string[]): Map<string, string[]> {
  const byImage = new Map<string, string[]>()
  for (const key of keys) {
    const { image, volume = '' } = namedBy(key)
    if (!isImageDirectory(image)) continue
    const volumes = byImage.get(image)
    if (volumes === undefined) byImage.set(image, [volume])
    else volumes.push(volume)
  }
  return byImage
}

/** Reads the records of all unfinished copies of chains, when they are first asked for. Few looks need them. */
export function openChains (area: Area, read = recordReader(area)): () => Promise<CopyRecord[]> {
  let records: Promise<CopyRecord[]> | undefined
  return async () => await (records ??= readOpenChains(area, read))
}

async function readOpenChains (area: Area, read: ReadRecord): Promise<CopyRecord[]> {
  const records = await inTurns(await recordedKeys(area), async key => (await read(key)).record)
  return records.flatMap(record => record !== undefined && isOpenChain(record) ? record : [])
}

const isOpenChain = ({ chain, phase }: CopyRecord) => chain !== undefined && phase !== 'done'

/**
 * Looks at everything there is about an image and its volumes.
 *
 * @param recorded its volumes that have a record.
 * @param read reads records; where many images are looked at, from what is known of them.
 * @param chains what `openChains` gives; one for all images, where many are looked at.
 */
export async function inspectImage (area: Area, image: string, recorded: readonly string[], { read = recordReader(area), chains = openChains(area) }: Records = {}): Promise<FoundImage> {
  return await withImage(area, image, async directory => {
    const present = await readVolumes(area, image, directory)
    const missing = recorded.filter(volume => volume !== '' && !present.some(files => files.volume === volume))
    const all = [...present, ...missing.map(volume => ({ volume, data: undefined, metadata: undefined, problem: undefined, lease: false, abandoned: false }))]
    const volumes: FoundImage['volumes'] = []
    const gone: FoundVolume[] = []
    for (const files of all) {
      const children = childrenOf(all, files.volume)
      const found = await inspectVolume({ area, image, children, read }, files, async () => directory === undefined ? files : await readVolume(area, image, directory, files.volume))
      const verdict = judgeVolume(found)
      if (verdict === undefined) gone.push(found)
      else volumes.push({ found, children, verdict })
    }
    coverLinks(volumes)
    await coverCutOff(volumes, chains)
    const verdict = await judgeImage(area, image, volumes, { exists: directory !== undefined, isRecorded: recorded.includes(''), read })
    return { image, exists: directory !== undefined, volumes, gone, ...(verdict !== undefined && { verdict }) }
  })
}

/** What a crash has left of the link of a template is made anew with the chain that it is linked for. */
function coverLinks (volumes: FoundImage['volumes']): void {
  const heads = volumes.flatMap(({ found: { record } }) => record !== undefined && isOpenChain(record) ? record : [])
  for (const volume of volumes) {
    const { found, verdict } = volume
    if (found.record !== undefined || verdict.state === 'ok' || !heads.some(({ image, chain }) => chain?.volumes.some(lower => lower.volume === found.volume && lower.image !== image))) continue
    found.covered = true
    volume.verdict = { ...verdict, fixes: [] }
  }
}

/**
 * The first write of a record that was cut off does not say whose it is: the chain that names the volume does, whose copy
 * makes it anew. A template is another image than the chain's.
 */
async function coverCutOff (volumes: FoundImage['volumes'], chains: () => Promise<CopyRecord[]>): Promise<void> {
  for (const volume of volumes) {
    const { found, verdict } = volume
    if (!isCutOff(found) || found.leased) continue
    const head = (await chains()).find(({ chain }) => chain?.volumes.some(lower => lower.image === found.image && lower.volume === found.volume))
    if (head === undefined) continue
    found.covered = true
    volume.verdict = { ...verdict, detail: `${verdict.detail} It is part of the copy of the chain of volume ${head.image}/${head.volume}.`, fixes: [] }
  }
}

/** Nothing is left of a volume but the cut-off first write of its record. */
function isCutOff ({ record, recordProblem, abandonedRecord, files: { data, metadata, problem, lease, abandoned } }: FoundVolume): boolean {
  return abandonedRecord && record === undefined && recordProblem === undefined && data === undefined && metadata === undefined && problem === undefined && !lease && !abandoned
}

/**
 * The lease is asked before record and files are read again: the other way round, a copy that ends in between would look
 * interrupted.
 */
async function inspectVolume ({ area, image, children, read }: { area: Area, image: string, children: string[], read: ReadRecord }, files: VolumeFiles, readAgain: () => Promise<VolumeFiles>): Promise<FoundVolume> {
  const { volume } = files
  const key = keyOf({ image, volume })
  const base = { domain: area.id, image, volume, files, children, leased: false }
  const first = { ...base, ...await known(read, key) }
  if (judgeVolume(first)?.state === 'ok') return first
  const leased = await isImageLeased(area, { image, volume })
  const again = await readAgain()
  const latest = await known(read, key)
  const { record } = latest
  const isMeant = record?.phase !== 'deleting' || again.data === undefined || await isMeantBy(record, area.copies, again.data)
  return { ...base, files: again, children: [...children, ...await usersElsewhere(area, image, again)], leased, isMeant, ...latest }
}

/** What the record says, and those that belong to it: of the chain that it is part of, or of the volumes below it. */
async function known (read: ReadRecord, key: string): Promise<Pick<FoundVolume, 'record' | 'recordProblem' | 'isNewer' | 'abandonedRecord' | 'head' | 'lower' | 'covered'>> {
  const found = plain(await read(key))
  const { record } = found
  const { partOf, chain } = record ?? {}
  const other = async (named: Named) => (await read(keyOf(named))).record
  const head = partOf === undefined ? undefined : await other(partOf)
  const isPart = head?.chain?.id === partOf?.id && head !== undefined
  const lower = record?.phase === 'done' ? [] : await Promise.all((chain?.volumes ?? []).filter(({ bytes }) => bytes > 0).map(other))
  return {
    ...found,
    ...(isPart && { head, covered: head.phase !== 'done' && record?.phase !== 'deleting' }),
    ...(chain !== undefined && { lower: lower.flatMap(record => record ?? []) })
  }
}

function plain ({ record, problem, abandonedWrite }: Readable): Pick<FoundVolume, 'record' | 'recordProblem' | 'isNewer' | 'abandonedRecord'> {
  const unreadable = problem === undefined ? {} : { isNewer: problem.code === 'record-newer' }
  return { record, recordProblem: problem?.message, abandonedRecord: abandonedWrite, ...unreadable }
}

/** Volumes of other images that are based on this one: it is a template, and a hard link of it lies beside each of them. */
export async function usersElsewhere (area: Area, image: string, { volume, data, metadata }: Pick<VolumeFiles, 'volume' | 'data' | 'metadata'>): Promise<string[]> {
  // a link of another image's template has its users there
  if (data === undefined || data.nlink < 2n || (metadata !== undefined && metadata.image !== image)) return []
  const users: string[] = []
  for (const other of await imageNames(area)) {
    if (other === image || other.startsWith(removedPrefix)) continue
    await withImage(area, other, async directory => {
      if (directory === undefined || (await look(directory, volume))?.ino !== data.ino) return
      const children = childrenOf(await readVolumes(area, other, directory), volume)
      users.push(...children.length > 0 ? children : [`${other}/${volume}`])
    })
  }
  return users
}

/** A volume that was made or written after an intent to delete its whole image, by the storage's own clock. */
export async function writtenAfter (
  area: Area, intent: CopyRecord, volumes: ReadonlyArray<Pick<VolumeFiles, 'volume' | 'data'>>
): Promise<string | undefined> {
  const writtenAt = intent.phase === 'deleting' ? await recordWrittenAt(area.copies, keyOf(intent)) : undefined
  return volumes.find(({ data }) => data !== undefined && writtenAt !== undefined && data.ctimeNs >= writtenAt)?.volume
}

/** Judges an image whose deletion as a whole was interrupted, or goes on, by its record. */
async function judgeDeletion (area: Area, image: string, volumes: FoundImage['volumes'], read: ReadRecord): Promise<Verdict | undefined> {
  const leased = await isImageLeased(area, { image })
  const { record, recordProblem, isNewer } = plain(await read(image))
  if (record === undefined && recordProblem === undefined) return undefined
  if (leased) return { state: 'illegal', detail: `Image ${image} is being deleted.`, fixes: [] }
  const broken = { domain: area.id, image, record }
  // a record that says nothing, or means another image, says nothing against one that is good
  const state = volumes.some(({ verdict }) => verdict.state === 'ok') ? 'ok' : 'illegal'
  if (isNewer === true) return { state, detail: recordProblem ?? '', fixes: [] }
  const late = record === undefined ? undefined : await writtenAfter(area, record, volumes.map(({ found: { volume, files } }) => ({ ...files, volume })))
  if (late !== undefined) {
    const detail = `The deletion of image ${image} was interrupted, and volume ${late} was made or written since.`
    return { state, detail, fixes: [forget(broken, 'Forgets the interrupted deletion and leaves the image as it is.')] }
  }
  if (record === undefined && state === 'ok') {
    return { state, detail: recordProblem ?? '', fixes: [forget(broken, 'Forgets the unreadable record and leaves the image as it is.')] }
  }
  return { state: 'illegal', detail: recordProblem ?? `The deletion of image ${image} was interrupted.`, fixes: [clean(broken, 'Finishes the deletion.')] }
}

async function judgeImage (area: Area, image: string, volumes: FoundImage['volumes'], { exists, isRecorded, read }: { exists: boolean, isRecorded: boolean, read: ReadRecord }): Promise<Verdict | undefined> {
  const deletion = isRecorded ? await judgeDeletion(area, image, volumes, read) : undefined
  if (deletion !== undefined) return deletion
  const remove = (description: string): Verdict['fixes'] => [clean({ domain: area.id, image }, description)]
  if (!exists) return undefined
  if (image.startsWith(removedPrefix)) return { state: 'illegal', detail: 'vdsm was removing this image and was interrupted, or is at it at this moment.', fixes: remove('Finishes the removal.') }
  if (volumes.length === 0) return { state: 'illegal', detail: `Image ${image} has no volumes: its creation or deletion was interrupted.`, fixes: remove('Removes the empty directory.') }
  const cycle = cycleAmong(volumes.map(({ found }) => ({ volume: found.volume, metadata: found.files.metadata })))
  if (cycle.length > 0) return { state: 'illegal', detail: cycleDetail(cycle, image), fixes: [] }
  // of an unfinished copy, the parents are still to come
  const orphan = volumes.find(({ found: { files: { metadata } }, verdict }) => verdict.state === 'ok' && metadata?.parent !== undefined && !volumes.some(({ found }) => found.volume === metadata.parent))
  return orphan === undefined ? undefined : { state: 'illegal', detail: missingParentDetail({ volume: orphan.found.volume, metadata: orphan.found.files.metadata }, image), fixes: [] }
}

/** The open record of a volume, if somebody may still write it. */
export function openRecordOf ({ record }: FoundVolume): CopyRecord | undefined {
  return record === undefined || record.phase === 'done' ? undefined : record
}
