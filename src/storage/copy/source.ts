import { constants } from 'node:fs'
import type { Format } from '../../api/format.ts'
import { AppError } from '../../errors.ts'
import { infoCommand, isFormat, probeCommand } from '../../qemu/commands.ts'
import { classifyFailure, failureLine } from '../../qemu/failure.ts'
import { firstTable, furthestTable } from '../../qemu/cluster-table.ts'
import { headerBytes, parseQcow2Header } from '../../qemu/header.ts'
import { parseInfo } from '../../qemu/info.ts'
import type { Extent } from '../../qemu/map.ts'
import type { NodeFile } from '../../qemu/node.ts'
import { hasCode, openFile, readBytes, statFd } from '../../system/directory.ts'
import { run } from '../../system/run.ts'
import type { Area, DomainPlace } from '../area.ts'
import { differences, identityOf } from '../identity.ts'
import { formatOfName, isImageName } from '../names.ts'
import { patience } from '../patience.ts'
import type { SourceFile } from '../record.ts'

interface OpenFile extends SourceFile {
  fd: number
  /** The file's size as qemu counts it: in whole sectors, or, of qcow2, in whole clusters, the last of which may be stored in part. */
  endBytes: number
}

/** An image that is open for reading, with its backing files, top first. */
export interface Source {
  files: readonly [OpenFile, ...OpenFile[]]
  virtualSize: number
  /** Bytes that all its files take up: about as much data as there is to move. */
  dataBytes: number
  /** Internal snapshots of its files. */
  snapshots: number
}

const maxChain = 200

/**
 * Opens an image and its backing files, each once, by our own hand: qemu gets descriptors and opens no name that
 * stands in an image. A backing file must lie in the domain beside the image.
 */
export async function openSource (area: Area, place: DomainPlace, image: string, format: Format): Promise<Source> {
  const files: OpenFile[] = []
  let virtualSize: number | undefined
  let dataBytes = 0
  let snapshots = 0
  let next: { image: string, format: Format } | undefined = { image, format }
  while (next !== undefined) {
    const current: { image: string, format: Format } = next
    if (files.some(file => file.image === current.image)) throw invalid(image, `its backing files form a loop at ${current.image}`)
    if (files.length === maxChain) throw invalid(image, `it has more than ${maxChain} backing files`)
    const fd = await open(area, current.image, files.length === 0 ? undefined : image)
    const stats = await statFd(fd)
    const fileBytes = Number(stats.size)
    dataBytes += Number(stats.blocks) * 512
    const { size, backing, snapshots: own, clusterBytes } = current.format === 'raw'
      ? { size: fileBytes, backing: undefined, snapshots: 0, clusterBytes: 512 }
      : await describeQcow2(fd, fileBytes, current.image, place)
    files.push({ ...current, identity: identityOf(stats), fd, endBytes: Math.ceil(fileBytes / clusterBytes) * clusterBytes })
    virtualSize ??= size
    snapshots += own
    next = backing
  }
  const [top, ...backing] = files
  if (top === undefined || virtualSize === undefined) throw invalid(image, 'it has no files')
  return { files: [top, ...backing], virtualSize, dataBytes, snapshots }
}

async function open (area: Area, image: string, overlay: string | undefined): Promise<number> {
  try {
    return await patience(area)(async () => await openFile(area.root, image, constants.O_RDONLY))
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error
    if (overlay !== undefined) throw invalid(overlay, `its backing file ${image} is missing`)
    throw new AppError('image-not-found', `There is no image ${image} in domain ${area.id}.`, { cause: error })
  }
}

interface Described {
  size: number
  backing: { image: string, format: Format } | undefined
  snapshots: number
  clusterBytes: number
}

async function describeQcow2 (fd: number, fileBytes: number, image: string, place: DomainPlace): Promise<Described> {
  const start = await readBytes(fd, headerBytes)
  const header = parseQcow2Header(start, image, fileBytes)
  const { exitCode, stdout, stderr } = await run(infoCommand({ fd: 3, format: 'qcow2' }), { fds: [fd], maxOutput: 16 * 1024 * 1024, timeoutMs: 60_000 })
  if (exitCode !== 0) throw refusal(image, stderr)
  const info = parseInfo(stdout)
  if (info === undefined || info.virtualSize !== header.virtualSize) throw invalid(image, 'qemu-img and its header do not agree about it')
  // qemu takes what is cut off for zeros; how large the table may be, it has checked
  const table = firstTable(start)
  if (furthestTable(await readBytes(fd, table.bytes, table.offset)) + header.clusterBytes > fileBytes) throw invalid(image, `it is cut off after ${fileBytes} bytes: a table of its clusters lies behind that`)
  const { virtualSize: size, snapshots, clusterBytes } = header
  if (header.backing === undefined) return { size, backing: undefined, snapshots, clusterBytes }

  const name = header.backing.startsWith(`${place.path}/`) ? header.backing.slice(place.path.length + 1) : header.backing
  if (!isImageName(name)) throw invalid(image, `its backing file ${JSON.stringify(header.backing.slice(0, 200))} does not lie beside it in the domain`)
  const format = formatOfName(name) ?? info.backingFormat
  if (format === undefined || !isFormat(format)) throw invalid(image, `the format of its backing file ${name} is not known: neither name nor image tells it`)
  return { size, backing: { image: name, format }, snapshots, clusterBytes }
}

/** The source's files as nodes of a program that inherits their descriptors from number `first` on. */
export function sourceNodes ({ files: [top, ...backing] }: Source, first: number): [NodeFile, ...NodeFile[]] {
  return [{ fd: first, format: top.format }, ...backing.map(({ format }, index) => ({ fd: first + 1 + index, format }))]
}

export function sourceFds ({ files }: Source): number[] {
  return files.map(({ fd }) => fd)
}

/** Makes sure that no other program is writing the source, a guest above all. */
export async function probeSource (source: Source): Promise<void> {
  const { image } = source.files[0]
  const { exitCode, stderr } = await run(probeCommand(sourceNodes(source, 3), source.virtualSize), { fds: sourceFds(source), maxOutput: 0, timeoutMs: 60_000 })
  if (exitCode !== 0) throw refusal(image, stderr)
}

/** Why qemu-img would not read an image. */
function refusal (image: string, stderr: string): AppError {
  const failure = classifyFailure(stderr)
  if (failure === 'storage') return new AppError('storage-failed', `Image ${image} cannot be read: ${failureLine(stderr)}. Look after its storage.`)
  if (failure !== 'in-use') return invalid(image, `qemu-img says: ${stderr.trim().split('\n').at(-1) || 'nothing'}`)
  return new AppError('source-in-use', `Image ${image} is open for writing in another program, most likely a guest. Stop it, or copy a snapshot.`)
}

/** What of the source is no longer as it was when its identity was taken; empty if nothing. */
export async function sourceChanges (source: Source, recorded: readonly SourceFile[]): Promise<string[]> {
  if (recorded.length !== source.files.length) return ['the backing files']
  const changes = await Promise.all(source.files.map(async ({ fd, image, format }, index) => {
    const was = recorded[index]
    if (was === undefined || was.image !== image || was.format !== format) return [`the name or format of ${image}`]
    return differences(was.identity, identityOf(await statFd(fd))).map(what => `${what} of ${image}`)
  }))
  return changes.flat()
}

/** The source's files as the record keeps them. */
export function recordedFiles ({ files }: Source): SourceFile[] {
  return files.map(({ image, format, identity }) => ({ image, format, identity }))
}

/** Refuses clusters that lie behind the end of their file: qemu would read zeros for what was cut off, say by a download that broke. */
export function assertWhole ({ files }: Source, extents: readonly Extent[]): void {
  for (const { data, depth, offset, length } of extents) {
    const file = files[depth]
    if (!data || offset === undefined || file === undefined || offset + length <= file.endBytes) continue
    throw invalid(file.image, `it is cut off: data of it lies up to byte ${offset + length} of its file, which has ${file.identity.size}`)
  }
}

function invalid (image: string, what: string): AppError {
  return new AppError('image-invalid', `Image ${image} is not used: ${what}.`)
}
