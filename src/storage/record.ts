import { Type, type Static } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import { constants } from 'node:fs'
import { Allocation, ClusterSize, Format } from '../api/format.ts'
import { type CopyProgress } from '../api/image.ts'
import { DomainId, ImageName } from '../api/names.ts'
import { Bytes, Strict, Words } from '../api/schema.ts'
import { AppError } from '../errors.ts'
import { closeFd, hasCode, NotAFileError, openFile, readBytes, type Directory } from '../system/directory.ts'
import { removeFile, replaceFile } from '../system/durable.ts'
import { Identity } from './identity.ts'
import { areRanges, total } from './ranges.ts'

const RangeList = Type.Array(Type.Tuple([Type.Integer({ minimum: 0 }), Type.Integer({ minimum: 0 })]))

/** One file of the source: the image itself, then its backing files down to the base. */
export const SourceFile = Strict({ image: ImageName, format: Format, identity: Identity })
export type SourceFile = Static<typeof SourceFile>

/**
 * The copy record: `.vdsm-tasks/copies/<target>.json` in the target's domain. It is the truth about a copy; every
 * host reads it, and the one that holds the target's lease writes it.
 */
export const CopyRecord = Strict({
  version: Type.Literal(1),
  /** Random; also the name of the part file. */
  copyId: Type.String({ pattern: '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' }),
  phase: Words(['creating', 'copying', 'finishing', 'done', 'deleting']),
  domain: DomainId,
  image: ImageName,
  format: Format,
  allocation: Allocation,
  /** As it was asked for. */
  clusterSize: Type.Optional(ClusterSize),
  virtualSize: Bytes(''),
  verify: Type.Boolean(),
  /** Absent when an empty image is being created. */
  source: Type.Optional(Strict({
    domain: DomainId,
    /** Exact, where the target's virtual size may be rounded up to 512. */
    virtualSize: Bytes(''),
    files: Type.Array(SourceFile, { minItems: 1, maxItems: 200 })
  })),
  /** The image that has the target's name, and is good until the copy takes its place. */
  replaces: Type.Optional(Identity),
  bandwidth: Type.Optional(Type.Integer({ minimum: 1 })),
  /** The part's inode, from `copying` on. */
  inode: Type.Optional(Type.String()),
  windowBytes: Type.Integer({ minimum: 0 }),
  /** Durable on the target. */
  done: RangeList,
  /** May have been written: a superset of what a crash leaves half-written. */
  begun: RangeList,
  bytesMoved: Bytes(''),
  bytesPerSecond: Type.Optional(Bytes('')),
  epoch: Type.Integer({ minimum: 1 }),
  host: Strict({ id: Type.String({ maxLength: 255 }), url: Type.Optional(Type.String({ maxLength: 2000 })) }),
  taskId: Type.Optional(Type.String({ maxLength: 255 })),
  createdAt: Type.String({ maxLength: 40 }),
  checkpointAt: Type.String({ maxLength: 40 }),
  completedAt: Type.Optional(Type.String({ maxLength: 40 })),
  canceledAt: Type.Optional(Type.String({ maxLength: 40 })),
  verified: Type.Optional(Type.Boolean()),
  /** The target as it was when the copy was complete. */
  target: Type.Optional(Identity)
})
export type CopyRecord = Static<typeof CopyRecord>

const validator = TypeCompiler.Compile(CopyRecord)
const maxRecordBytes = 4 * 1024 * 1024

const fileName = (image: string) => `${image}.json`
const temporaryName = (image: string) => `${image}.json.new`

/** The image that a file in `copies/` is about, and whether it is a whole record or an unfinished write of one. */
export function recordedImage (file: string): { image: string, whole: boolean } | undefined {
  const match = /^(.+)\.json(\.new)?$/.exec(file)
  return match?.[1] === undefined ? undefined : { image: match[1], whole: match[2] === undefined }
}

/**
 * Reads the record of an image; undefined if there is none. Throws `record-invalid` for anything that this product
 * would not have written: on a shared storage, other hosts can put there what they like.
 */
export async function readRecord (copies: Directory, domain: string, image: string): Promise<CopyRecord | undefined> {
  let bytes
  try {
    const fd = await openFile(copies, fileName(image), constants.O_RDONLY)
    try {
      bytes = await readBytes(fd, maxRecordBytes)
    } finally {
      await closeFd(fd)
    }
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined
    if (error instanceof NotAFileError) throw invalid(image, 'it is not a regular file')
    throw error
  }
  return parseRecord(bytes.toString(), domain, image)
}

/** Checks the text of a record. Throws `record-invalid` with the first thing that is wrong. */
export function parseRecord (text: string, domain: string, image: string): CopyRecord {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw invalid(image, 'it is not JSON', error)
  }
  if (!validator.Check(value)) throw invalid(image, firstFlaw(value))
  if (value.domain !== domain || value.image !== image) throw invalid(image, 'it names another image')
  if (!areRanges(value.done, value.virtualSize) || !areRanges(value.begun, value.virtualSize)) throw invalid(image, 'its ranges are not in order')
  return value
}

function firstFlaw (value: unknown): string {
  const first = validator.Errors(value).First()
  return `${first?.path ?? '/'}: ${first?.message ?? 'wrong'}`
}

function invalid (image: string, what: string, cause?: unknown): AppError {
  return new AppError('record-invalid', `The copy record of ${image} cannot be used: ${what}. deleteImage removes the image together with its record.`, { cause })
}

/**
 * Writes the record durably, as a whole. Only the holder of the target's lease may. What no reader would accept is not
 * written: a copy that nobody can read the record of can only be deleted.
 */
export async function writeRecord (copies: Directory, record: CopyRecord): Promise<void> {
  const { image } = record
  if (!validator.Check(record)) throw new Error(`the copy record of ${image} would be wrong: ${firstFlaw(record)}`)
  await replaceFile(copies, fileName(image), temporaryName(image), JSON.stringify(record) + '\n')
}

/** Removes the record and what an interrupted write may have left. Returns whether anything was there. */
export async function removeRecord (copies: Directory, image: string): Promise<boolean> {
  const temporary = await removeFile(copies, temporaryName(image))
  const record = await removeFile(copies, fileName(image))
  return temporary || record
}

/** The record as callers see it. */
export function progressOf (record: CopyRecord): CopyProgress {
  const { copyId, phase, source, host, taskId, bytesPerSecond, createdAt, checkpointAt, completedAt, canceledAt, verified, epoch } = record
  const [image] = source?.files ?? []
  return {
    copyId,
    phase,
    ...(source !== undefined && image !== undefined && { source: { domain: source.domain, image: image.image } }),
    host,
    ...(taskId !== undefined && { taskId }),
    bytesTotal: record.virtualSize,
    bytesDone: phase === 'done' ? record.virtualSize : total(record.done),
    ...(bytesPerSecond !== undefined && { bytesPerSecond }),
    createdAt,
    checkpointAt,
    ...(completedAt !== undefined && { completedAt }),
    ...(canceledAt !== undefined && { canceledAt }),
    ...(verified !== undefined && { verified }),
    epoch
  }
}
