import type { BrokenImage, Copy, ImageEntry, ImageState, ImageStatus, Volume } from '../../../api/image.ts'
import { AppError } from '../../../errors.ts'
import type { Area } from '../../area.ts'
import { identityOf } from '../../identity.ts'
import { patience } from '../../patience.ts'
import { tellableOf } from '../../standing.ts'
import { progressOf } from '../../record-progress.ts'
import { tellBytes, tellTime } from '../../told.ts'
import { wholeList, type CopiesQuery, type Page } from '../../protocol.ts'
import { keyOf, namedBy, type Named } from '../../record.ts'
import { firstOf } from '../../turns.ts'
import { copyState, isAskedFor, mayBe } from '../copy-state.ts'
import { NameList, namesAfter } from '../name-list.ts'
import { recordsOf, type ReadRecord } from '../records.ts'
import { baseFirst, childrenOf } from './chain.ts'
import { imageNames, inspectImage, openChains, openRecordOf, recordedVolumes, volumesByImage, type FoundImage } from './inspect.ts'
import { formatOf } from './volume-metadata.ts'
import { soundnessOf } from './soundness.ts'
import { volumeInfo, type FoundVolume, type Verdict } from './volume-state.ts'
import { readVolumes, withImage } from './volumes.ts'

/** A page of the images, by name. The format is that of the volume that guests write. */
export async function listImages (area: Area, after: string, limit: number): Promise<ImageEntry[]> {
  const names = await listOf(area)
  // files and links among the directories are none
  return await firstOf(namesAfter(names, after), limit, async image => [await listImage(area, image)].flatMap(entry => entry ?? []))
}

/** The names of the images that have a directory, of each domain that this process works on. */
const lists = new Map<string, NameList>()

async function listOf (area: Area): Promise<readonly string[]> {
  const list = lists.get(area.path) ?? new NameList(async images => await imageNames({ id: area.id, images }))
  lists.set(area.path, list)
  return (await list.get({ directory: area.images, local: area.local })).names
}

async function listImage (area: Area, image: string): Promise<ImageEntry | undefined> {
  return await withImage(area, image, async directory => {
    // gone in the meantime
    if (directory === undefined) return undefined
    const volumes = await readVolumes(area, image, directory)
    const [leaf, ...others] = volumes.filter(({ volume }) => childrenOf(volumes, volume).length === 0)
    const modified = volumes.map(({ data }) => data?.mtimeMs ?? 0n).reduce((a, b) => a > b ? a : b, 0n)
    const total = (of: 'size' | 'blocks') => volumes.reduce((sum, { data }) => sum + (data?.[of] ?? 0n), 0n)
    return {
      image,
      ...(leaf?.metadata !== undefined && others.length === 0 && { format: formatOf(leaf.metadata) }),
      fileSize: tellBytes(total('size')),
      actualSize: Number(total('blocks')) * 512,
      modifiedAt: tellTime(modified),
      volumes: volumes.length
    }
  }).catch((error: unknown) => {
    // a file or a link among the directories is no image
    if (error instanceof AppError && error.code === 'image-invalid') return undefined
    throw error
  })
}

/** Everything the storage says about one image and its volumes. Throws `image-not-found`. */
export async function imageStatus (area: Area, image: string): Promise<ImageStatus> {
  const found = await patience(area)(async () => await inspectImage(area, image, (await recordedVolumes(area)).get(image) ?? []), isThere)
  if (!isThere(found)) throw new AppError('image-not-found', `There is no image ${image} in domain ${area.id}.`)
  const looked = found.volumes.map(({ found: { volume, files } }) => ({ ...files, volume }))
  const { problems, warnings } = await soundnessOf(area, image, looked)
  const sorted = baseFirst(found.volumes.map(item => ({ ...item, volume: item.found.volume, metadata: item.found.files.metadata })))
    .map(item => ({ ...item, verdict: withProblem(item.verdict, problems.get(item.volume)) }))
  const volumes = sorted.map(({ found, children, verdict }): Volume => {
    const info = volumeInfo(found, children, `${area.path}/images/${image}/${found.volume}.lease`)
    const record = tellable(found)
    return { volume: found.volume, ...verdict, ...(info !== undefined && { info }), ...(record !== undefined && { copy: progressOf(record, found.lower) }) }
  })
  const leaves = sorted.filter(({ children }) => children.length === 0)
  const top = leaves.length === 1 ? leaves[0]?.found.files.metadata : undefined
  // a chain is told as a whole
  const open = sorted.filter(({ found }) => openRecordOf(found) !== undefined).toSorted((a, b) => Number(a.found.covered ?? false) - Number(b.found.covered ?? false))[0]?.found
  const details = new Set([found, ...sorted].flatMap(({ verdict }) => verdict?.detail ?? []))
  return {
    domain: area.id,
    image,
    state: stateOf([...found.verdict === undefined ? [] : [found.verdict.state], ...sorted.map(({ verdict }) => verdict.state)]),
    ...(details.size > 0 && { detail: [...details].join(' ') }),
    ...(warnings.length > 0 && { warnings }),
    ...(top !== undefined && { format: formatOf(top), virtualSize: top.capacity }),
    actualSize: sorted.reduce((sum, { found }) => sum + Number(found.files.data?.blocks ?? 0n) * 512, 0),
    ...(open?.record !== undefined && { copy: progressOf(open.record, open.lower) }),
    volumes,
    fixes: [...found.verdict?.fixes ?? [], ...sorted.flatMap(({ verdict }) => verdict.fixes)],
    observedAt: new Date().toISOString()
  }
}

/** A volume that looks good by its metadata may not be. */
function withProblem (verdict: Verdict, problem: string | undefined): Verdict {
  return problem === undefined || verdict.state !== 'ok' ? verdict : { ...verdict, state: 'illegal', detail: problem }
}

/** The record as it may be told of the volume that is there. */
const tellable = ({ record, files: { data } }: FoundVolume) => record === undefined ? undefined : tellableOf(record, data === undefined ? undefined : identityOf(data))

const isThere = ({ exists, volumes, verdict }: FoundImage) => exists || volumes.length > 0 || verdict !== undefined

/** The state of a whole: what is going on, else what is wrong, else all is well. */
function stateOf (states: readonly ImageState[]): ImageState {
  return (['copying', 'interrupted', 'illegal'] as const).find(state => states.includes(state)) ?? 'ok'
}

/** A page of the copy records of the domain, those of complete copies too; of a chain, that of its top. */
export async function listCopies (area: Area, { after, limit, taskId, state }: CopiesQuery = wholeList, progressed = () => {}): Promise<Copy[]> {
  const { listing, records, inspect } = await recorded(area)
  const images = volumesByImage(namesAfter(listing.names, namedBy(after).image))
  return await firstOf([...images], limit, async ([image, volumes]): Promise<Copy[]> => {
    const summaries = await Promise.all(volumes.map(async volume => await records.summary(area, keyOf({ image, volume: volume || undefined }), listing)))
    if (!summaries.some(summary => summary !== undefined && mayBe(summary, { taskId, state }))) return []
    return copiesOf(area, await inspect(image, volumes)).filter(copy => keyOf(copy) > after && isAskedFor(copy, { taskId, state }))
  }, progressed)
}

/** What is listed of the copies of an image. */
function copiesOf (area: Area, { image, volumes, gone }: FoundImage): Copy[] {
  return [...volumes, ...gone.map(found => ({ found, verdict: undefined }))].flatMap(({ found, verdict }): Copy[] => {
    const { volume, leased, lower, head } = found
    const record = tellable(found)
    // what is part of the copy of a chain is told with that
    return record === undefined || head !== undefined ? [] : [{ domain: area.id, image, volume, state: copyState(record, verdict, leased), copy: progressOf(record, lower) }]
  }).sort(byKey)
}

/** A page of what is broken in the domain, and the way out of each. What is in somebody's hands at this moment is left out. */
export async function listFixes (area: Area, { after, limit }: Page = wholeList, progressed = () => {}): Promise<BrokenImage[]> {
  const { listing, inspect } = await recorded(area)
  const images = volumesByImage(listing.names)
  const names = [...new Set([...await listOf(area), ...images.keys()])].sort()
  const { image: first } = namedBy(after)
  const rest = [...names.includes(first) ? [first] : [], ...namesAfter(names, first)]
  return await firstOf(rest, limit, async image => fixesOf(await inspect(image, images.get(image) ?? []).catch((error: unknown): FoundImage => {
    if (!(error instanceof AppError) || error.code !== 'image-invalid') throw error
    return { image, exists: true, volumes: [], gone: [], verdict: { state: 'illegal', detail: error.message, fixes: [] } }
  })).filter(broken => keyOf(broken) > after), progressed)
}

function fixesOf ({ image, volumes, verdict }: FoundImage): BrokenImage[] {
  const whole = verdict === undefined ? [] : [{ image, state: verdict.state, detail: verdict.detail ?? '', fixes: verdict.fixes }]
  // what is left of an image that is to go as a whole goes with it
  if (verdict?.fixes.some(({ action }) => action === 'clean') === true) return whole
  return [...whole, ...volumes
    .filter(({ found, verdict }) => !found.leased && found.covered !== true && verdict.state !== 'ok')
    .map(({ found: { volume }, verdict: { state, detail = '', fixes } }) => ({ image, volume, state, detail, fixes }))].sort(byKey)
}

const byKey = (a: Named, b: Named) => keyOf(a) < keyOf(b) ? -1 : 1

/** The records of the domain, and looks at the images that have some. */
async function recorded (area: Area) {
  const records = recordsOf(area)
  const listing = await patience(area)(async () => await records.list(area))
  const read: ReadRecord = async key => await records.read(area, key)
  const chains = openChains(area, read)
  const inspect = async (image: string, volumes: readonly string[]) => await inspectImage(area, image, volumes, { read, chains })
  return { listing, records, inspect }
}
