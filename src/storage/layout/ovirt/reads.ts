import type { BrokenImage, Copy, ImageEntry, ImageState, ImageStatus, Volume } from '../../../api/image.ts'
import { AppError } from '../../../errors.ts'
import { firstNames } from '../../../system/directory.ts'
import type { Area } from '../../area.ts'
import { identityOf } from '../../identity.ts'
import { patience } from '../../patience.ts'
import { tellableOf } from '../../standing.ts'
import { progressOf } from '../../record-progress.ts'
import { tellBytes, tellTime } from '../../told.ts'
import { inTurns } from '../../turns.ts'
import { copyState } from '../copy-state.ts'
import { baseFirst, childrenOf } from './chain.ts'
import { imageNames, inspectImage, isImageDirectory, openChains, openRecordOf, recordedVolumes, type FoundImage } from './inspect.ts'
import { formatOf } from './volume-metadata.ts'
import { soundnessOf } from './soundness.ts'
import { volumeInfo, type FoundVolume, type Verdict } from './volume-state.ts'
import { readVolumes, withImage } from './volumes.ts'

/** A page of the images, by name. The format is that of the volume that guests write. */
export async function listImages (area: Area, after: string, limit: number): Promise<ImageEntry[]> {
  const images: ImageEntry[] = []
  for (let last = after; ;) {
    const from = last
    const names = await firstNames(area.images, limit, ({ name }) => isImageDirectory(name) && name > from)
    images.push(...(await inTurns(names, async image => await listImage(area, image))).flatMap(entry => entry ?? []))
    const end = names.at(-1)
    // files and links among the directories are none: there may be more behind them
    if (images.length >= limit || end === undefined || names.length < limit) return images.slice(0, limit)
    last = end
  }
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

/** Every copy record of the domain, those of complete copies too; of a chain, that of its top. */
export async function listCopies (area: Area): Promise<Copy[]> {
  const recorded = [...await recordedVolumes(area)].sort(([a], [b]) => a < b ? -1 : 1)
  const chains = openChains(area)
  const images = await inTurns(recorded, async ([image, volumes]) => await inspectImage(area, image, volumes, chains))
  return images.flatMap(({ image, volumes, gone }) => [...volumes, ...gone.map(found => ({ found, verdict: undefined }))].flatMap(({ found, verdict }): Copy[] => {
    const { volume, leased, lower, head } = found
    const record = tellable(found)
    // what is part of the copy of a chain is told with that
    return record === undefined || head !== undefined ? [] : [{ domain: area.id, image, volume, state: copyState(record, verdict, leased), copy: progressOf(record, lower) }]
  }))
}

/** What is broken in the domain, and the way out of each. What is in somebody's hands at this moment is left out. */
export async function listFixes (area: Area): Promise<BrokenImage[]> {
  const recorded = await recordedVolumes(area)
  const names = [...new Set([...await imageNames(area), ...recorded.keys()])].sort()
  const chains = openChains(area)
  const images = await inTurns(names, async image => await inspectImage(area, image, recorded.get(image) ?? [], chains).catch((error: unknown): FoundImage => {
    if (!(error instanceof AppError) || error.code !== 'image-invalid') throw error
    return { image, exists: true, volumes: [], gone: [], verdict: { state: 'illegal', detail: error.message, fixes: [] } }
  }))
  return images.flatMap(({ image, volumes, verdict }) => [
    ...(verdict === undefined ? [] : [{ image, state: verdict.state, detail: verdict.detail ?? '', fixes: verdict.fixes }]),
    // what is left of an image that is to go as a whole goes with it
    ...(verdict !== undefined && verdict.fixes.some(({ action }) => action === 'clean')
      ? []
      : volumes.filter(({ found, verdict }) => !found.leased && found.covered !== true && verdict.state !== 'ok').map(({ found: { volume }, verdict: { state, detail = '', fixes } }) => ({ image, volume, state, detail, fixes })))
  ])
}
