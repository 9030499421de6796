import { constants, type BigIntStats } from 'node:fs'
import type { Dropped } from '../../api/kinds.ts'
import { AppError } from '../../errors.ts'
import { probeCommand } from '../../qemu/commands.ts'
import { classifyFailure, failureLine, type Failed } from '../../qemu/failure.ts'
import { invalidImage, undeclaredFormat } from '../../qemu/header.ts'
import type { HeaderState } from '../../qemu/header-state.ts'
import type { Extras } from '../../qemu/extras.ts'
import type { Extent } from '../../qemu/map.ts'
import { runQemu } from '../../qemu/run.ts'
import { looksLike, signatureBytes } from '../../qemu/signature.ts'
import { closeFd, isOnlyName, openFile, readBytes, statFd, type Owner } from '../../system/directory.ts'
import { syncData } from '../../system/durable.ts'
import { hasErrno } from '../../system/errno.ts'
import type { Area } from '../area.ts'
import { identityOf } from '../identity.ts'
import type { ChainFile, ChainVolume, SourceChain } from '../layout/source-chain.ts'
import { newerBases, rawWarnings } from '../layout/soundness.ts'
import { patience } from '../patience.ts'
import { sourceDifferences, wordsOf, type SourceFile } from '../record.ts'
import { isTellable } from '../told.ts'
import { describeQcow2 } from './describe.ts'
import { droppedOf } from './dropped.ts'
import { groupsOf, layerFds, layerNodes } from './layers.ts'

interface OpenFile extends SourceFile {
  fd: number
  /** The file's size as qemu counts it: in whole sectors, or, of qcow2, in whole clusters, the last of which may be stored in part. */
  endBytes: number
  /** Of the disk that a guest sees of it. */
  virtualSize: number
  /** Of a qcow2 file, as it was found to be harmless. */
  header?: HeaderState | undefined
}

/** An image that is open for reading, with its backing files, top first. */
export interface Source {
  files: readonly [OpenFile, ...OpenFile[]]
  /** Whom the images of its domain belong to. */
  owner?: Owner | undefined
  virtualSize: number
  /** Bytes that all its files take up: about as much data as there is to move. */
  dataBytes: number
  /** What may be wrong with it, as its files by themselves show. */
  warnings?: readonly string[]
  /** What its files have that a copy of it does not. */
  dropped?: Dropped
  /** What its layout says of it, which a copy of it should say, too. */
  description?: string
  diskType?: string
  /** Only the top's own file is read, as raw: what the copy of it by itself has to say. */
  volume?: ChainVolume
  /** It is only looked at: whoever needs its files in earnest must not find them in use. */
  isPreview?: boolean
  /** What the layout says otherwise by now than when the source was opened. */
  changes (): Promise<string[]>
}

export const maxChain = 200

/**
 * Opens an image and its backing files, each once, by our own hand: qemu gets descriptors and opens no name that
 * stands in an image. A backing file must lie in the domain beside the image.
 */
export async function openSource (area: Area, chain: SourceChain): Promise<Source> {
  const image = wordsOf(chain.top)
  const files: OpenFile[] = []
  let virtualSize: number | undefined
  let dataBytes = 0
  const extras: Extras[] = []
  const warnings: string[] = []
  let next: ChainFile | undefined = chain.top
  while (next !== undefined) {
    const current: ChainFile = next
    const words = wordsOf(current)
    if (files.some(file => wordsOf(file) === words)) throw invalidImage(image, `its backing files form a loop at ${words}`)
    if (files.length === maxChain) throw invalidImage(image, `it has more than ${maxChain} backing files`)
    const fd = await open(area, current, files.length === 0 ? undefined : image)
    const stats = await statFd(fd)
    if (current.undeclared === true) await assertLooksRaw(fd, words, wordsOf(files.at(-1) ?? current))
    const { volume, generation, format } = current
    const fileBytes = lengthOf(stats, words)
    dataBytes += Number(stats.blocks) * 512
    if (format === 'raw') warnings.push(...await rawWarnings(fd, fileBytes, words))
    const { size, backing, extras: own, clusterBytes, header } = format === 'raw'
      ? { size: fileBytes, backing: undefined, extras: { snapshots: [], bitmaps: [] }, clusterBytes: 512, header: undefined }
      : await describeQcow2(fd, fileBytes, words)
    files.push({
      image: current.image,
      ...(volume !== undefined && { volume }),
      format,
      ...(generation !== undefined && { generation }),
      identity: identityOf(stats),
      fd,
      endBytes: Math.ceil(fileBytes / clusterBytes) * clusterBytes,
      virtualSize: size,
      header
    })
    virtualSize ??= size
    extras.push(own)
    next = chain.below(current, backing)
  }
  const [top, ...backing] = files
  if (top === undefined || virtualSize === undefined) throw invalidImage(image, 'it has no files')
  const { description, diskType } = chain
  const dropped = droppedOf(extras)
  return {
    files: [top, ...backing],
    owner: area.owner,
    virtualSize,
    dataBytes,
    warnings,
    ...(dropped !== undefined && { dropped }),
    ...(description !== undefined && { description }),
    ...(diskType !== undefined && { diskType }),
    changes: async () => await chain.changes()
  }
}

/**
 * Opens the top of a chain alone, as raw: its file is copied as it is, with its own data, the name of its parent, and
 * whatever else qcow2 keeps there. It is looked at as closely as one that is read with its parents.
 */
export async function openVolume (area: Area, chain: SourceChain): Promise<Source> {
  const { top, description, diskType } = chain
  const [volume] = chain.volumes?.() ?? []
  if (volume === undefined) throw new AppError('not-supported', `Images of domain ${area.id} have no volumes: there is no chain to keep.`)
  const words = wordsOf(top)
  const fd = await open(area, top, undefined)
  const stats = await statFd(fd)
  const fileBytes = lengthOf(stats, words)
  const { size, backing, header } = top.format === 'raw'
    ? { size: fileBytes, backing: undefined, header: undefined }
    : await describeQcow2(fd, fileBytes, words)
  // whoever opens the copy goes by what stands in it
  chain.below(top, backing)
  const { generation } = top
  return {
    files: [{
      image: top.image,
      ...(top.volume !== undefined && { volume: top.volume }),
      format: 'raw',
      ...(generation !== undefined && { generation }),
      identity: identityOf(stats),
      fd,
      endBytes: Math.ceil(fileBytes / 512) * 512,
      virtualSize: fileBytes,
      header
    }],
    owner: area.owner,
    virtualSize: fileBytes,
    dataBytes: Number(stats.blocks) * 512,
    warnings: top.format === 'raw' ? await rawWarnings(fd, fileBytes, words) : [],
    ...(description !== undefined && { description }),
    ...(diskType !== undefined && { diskType }),
    volume: { ...volume, layer: { ...volume.layer, capacity: size } },
    changes: async () => await chain.changes()
  }
}

/** A name may be the only thing that tells the format of a backing file, but not against what qemu would take the file for. */
async function assertLooksRaw (fd: number, name: string, overlay: string): Promise<void> {
  const found = looksLike(await readBytes(fd, signatureBytes))
  if (found !== undefined) throw undeclaredFormat(overlay, name, `and that begins like a ${found} image`)
}

function lengthOf ({ size }: BigIntStats, words: string): number {
  if (!isTellable(size)) throw invalidImage(words, `it claims a size of ${size} bytes`)
  return Number(size)
}

async function open (area: Area, file: ChainFile, overlay: string | undefined): Promise<number> {
  try {
    return await patience(area)(async () => await openReadable(file))
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) throw error
    if (overlay !== undefined) throw invalidImage(overlay, `its backing file ${file.name} is missing`)
    throw new AppError('image-not-found', `There is no image ${wordsOf(file)} in domain ${area.id}.`, { cause: error })
  }
}

/**
 * Opens a file of a source. Its name may be a hard link of a file elsewhere, made by somebody who can write to the domain
 * and may not read that file: the agent would read it for him. So whoever can make names there must be able to read it.
 */
async function openReadable (file: ChainFile): Promise<number> {
  const fd = await openFile(file.directory, file.name, constants.O_RDONLY)
  try {
    if (await isOnlyName(file.directory, file.name, fd) || isReadableToWriters(await statFd(fd), await statFd(file.directory.fd))) return fd
    throw invalidImage(wordsOf(file), 'it has other names, too, and is not readable for all who can write to its directory. Make a copy of its own, or let them read it')
  } catch (error) {
    await closeFd(fd)
    throw error
  }
}

/** Whether a file is open to read to all those who can make names in a directory, root left aside. */
export function isReadableToWriters (file: Access, directory: Access): boolean {
  const others = (file.mode & 0o004n) !== 0n
  const group = others || (file.gid === directory.gid && (file.mode & 0o040n) !== 0n)
  const owner = file.uid === directory.uid ? (file.mode & 0o400n) !== 0n : group
  const may = (bit: bigint) => (directory.mode & bit) !== 0n
  return (directory.uid === 0n || owner) && (!may(0o020n) || group) && (!may(0o002n) || others)
}

type Access = Pick<BigIntStats, 'uid' | 'gid' | 'mode'>

/** Makes sure that no other program is writing the source, a guest above all. */
export async function probeSource ({ isPreview: _, ...source }: Source): Promise<void> {
  const { image } = source.files[0]
  for (const layers of groupsOf(source)) {
    const size = source.files[layers[0]]?.virtualSize ?? 0
    const probed = await runQemu(probeCommand(layerNodes(source, layers, 3), size), {
      fds: layerFds(source, layers), owner: source.owner, maxOutput: 0, timeoutMs: 60_000
    })
    if (probed.exitCode !== 0) throw refusal(image, probed)
  }
}

/** Why qemu-img would not read an image. */
function refusal (image: string, ended: Failed): AppError {
  const words = failureLine(ended)
  switch (classifyFailure(ended)) {
    case 'storage':
      return new AppError('storage-failed', `Image ${image} cannot be read: ${words}. Look after its storage.`)
    case 'in-use':
      return new AppError('source-in-use', `Image ${image} is open for writing in another program, most likely a guest. Stop it, or copy a snapshot.`)
    case 'no-memory':
      return new AppError('out-of-memory', `The host has too little memory to read image ${image}: ${words}. Try again when there is more.`)
    case 'killed':
      return new AppError('storage-process-died', `Image ${image} could not be looked at: ${words}. Try again.`)
    default:
      return invalidImage(image, `qemu-img says: ${words || 'nothing'}`)
  }
}

/**
 * Makes every page of the source clean. A store through mmap into a page that is dirty already does not change the time
 * of modification; the first store into a clean one does. So an identity that is taken afterwards, and is what it was
 * before, tells of every later store. Not on tmpfs, which has no clean pages; and file systems that cannot be written, such
 * as squashfs and ISO 9660, have nothing to sync.
 */
export async function syncSource ({ files }: Pick<Source, 'files'>): Promise<void> {
  await Promise.all(files.map(async ({ fd }) => {
    await syncData(fd).catch((error: unknown) => { if (!hasErrno(error, 'EINVAL', 'EROFS')) throw error })
  }))
}

/** What of a source is no longer as it was, in words. */
export interface SourceChanges {
  changed: string[]
  /**
   * Of these files nothing is different but the time of their last change. A hard link does that, of which a template gets
   * one with every image that is made from it; so do other owners and modes; and so does who writes and sets the time of
   * modification back. Only a comparison of the content can tell.
   */
  touched: string[]
}

/** What of the source is no longer as it was when its identity was taken. */
export async function sourceChanges (source: Pick<Source, 'files' | 'changes'>, recorded: readonly SourceFile[]): Promise<SourceChanges> {
  if (recorded.length !== source.files.length) return { changed: ['the backing files'], touched: [] }
  const changes = await Promise.all(source.files.map(async ({ fd, image, volume, format, generation }, index): Promise<SourceChanges> => {
    const was = recorded[index]
    if (was === undefined || was.image !== image || was.volume !== volume || was.format !== format) return { changed: [`the name or format of ${image}`], touched: [] }
    const different = sourceDifferences(was, { identity: identityOf(await statFd(fd)), ...(generation !== undefined && { generation }) })
    const words = different.map(what => `${what} of ${volume ?? image}`)
    return different.every(what => what === 'changed') ? { changed: [], touched: words } : { changed: words, touched: [] }
  }))
  return { changed: [...changes.flatMap(({ changed }) => changed), ...await source.changes()], touched: changes.flatMap(({ touched }) => touched) }
}

/** What may be wrong with a source, as far as its files and their times show. */
export function sourceWarnings ({ files, warnings: own = [] }: Source): { warnings?: string[] } {
  const warnings = [...own, ...newerBases(files.map(file => ({ name: wordsOf(file), modified: BigInt(file.identity.modified) })))]
  return warnings.length === 0 ? {} : { warnings }
}

/** The source's files as the record keeps them. */
export function recordedFiles ({ files }: Source): SourceFile[] {
  return files.map(({ fd: _, endBytes: __, virtualSize: ___, header: ____, ...file }) => file)
}

/** Refuses clusters that lie behind the end of their file: qemu would read zeros for what was cut off, say by a download that broke. */
export function assertWhole ({ files }: Source, extents: readonly Extent[]): void {
  for (const { data, depth, offset, length } of extents) {
    const file = files[depth]
    if (!data || offset === undefined || file === undefined || offset + length <= file.endBytes) continue
    throw invalidImage(file.image, `it is cut off: data of it lies up to byte ${offset + length} of its file, which has ${file.identity.size}`)
  }
}
