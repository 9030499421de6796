import { Type, type Static, type TProperties } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import { randomUUID } from 'node:crypto'
import type { BigIntStats } from 'node:fs'
import { Allocation, ClusterSize, Format } from '../api/format.ts'
import { Bandwidth, CreateImage } from '../api/kinds.ts'
import { DomainId, ImageName, TaskId, uuidPattern, VolumeId } from '../api/names.ts'
import { Bytes, timePattern, Words } from '../api/schema.ts'
import { AppError } from '../errors.ts'
import { look, namesIn, NotAFileError, readOwnFile, type Directory } from '../system/directory.ts'
import { hasErrno } from '../system/errno.ts'
import { removeFile, replaceFile } from '../system/durable.ts'
import { differences, Identity } from './identity.ts'
import { areRanges } from './ranges.ts'

/** Stands in messages, and on terminals: nothing that would steer one. */
const Line = (maxLength: number) => Type.String({ maxLength, pattern: '^[^\\u0000-\\u001f\\u007f-\\u009f]*$' })
/** The same as callers are told, or what is told would be no answer that the agent may give. */
const Time = Type.String({ maxLength: 40, pattern: timePattern.source })

/** Members that a later version has added are kept, and ignored: who reads a record may write it again. */
const Open = <T extends TProperties>(properties: T) => Type.Object(properties)

const RangeList = Type.Array(Type.Tuple([Type.Integer({ minimum: 0 }), Type.Integer({ minimum: 0 })]))

const Generation = Type.Integer({ minimum: 0, maximum: 999 })

/** One file of the source: the image itself, then its backing files down to the base. */
export const SourceFile = Open({
  image: ImageName,
  volume: Type.Optional(VolumeId),
  format: Format,
  identity: Identity,
  /** GEN of the volume. */
  generation: Type.Optional(Generation)
})
export type SourceFile = Static<typeof SourceFile>

/** In what a file of a source is no longer as it was recorded. */
export function sourceDifferences (was: Pick<SourceFile, 'identity' | 'generation'>, now: Pick<SourceFile, 'identity' | 'generation'>): string[] {
  return [...differences(was.identity, now.identity), ...was.generation === now.generation ? [] : ['generation']]
}

/** What a volume is in its chain, where its file is copied as it is. */
export const Layer = Open({
  format: Format,
  /** Bytes of the disk that a guest sees. */
  capacity: Bytes(''),
  parent: Type.Optional(VolumeId),
  volumeType: Words(['LEAF', 'INTERNAL', 'SHARED']),
  sequence: Type.Integer({ minimum: 0 })
})
export type Layer = Static<typeof Layer>

const ChainId = Type.String({ pattern: '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' })

/** The volumes below the top of a chain that is kept, base first. */
export const KeptChain = Open({
  id: ChainId,
  /** With the length of each file; 0 of one that was there. */
  volumes: Type.Array(Open({ image: ImageName, volume: VolumeId, bytes: Bytes('') }), { maxItems: 200 })
})
export type KeptChain = Static<typeof KeptChain>

/** The copy of a chain that the copy of this volume belongs to: that of its top. */
export const PartOf = Open({ image: ImageName, volume: VolumeId, id: ChainId })
export type PartOf = Static<typeof PartOf>

/** A record of a later one is not read. It stays as long as what is added can be ignored. */
const version = 1

/**
 * The copy record: `.vdsm-tasks/copies/<target>.json` in the target's domain. It is the truth about a copy; every
 * host reads it, and the one that holds the target's lease writes it.
 */
export const CopyRecord = Open({
  version: Type.Literal(version),
  /** Random; also the name of the part file. */
  copyId: Type.String({ pattern: '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' }),
  phase: Words(['creating', 'copying', 'finishing', 'done', 'deleting']),
  domain: DomainId,
  image: ImageName,
  /** In domains of volumes. Absent there in the intent to delete a whole image. */
  volume: Type.Optional(VolumeId),
  /** GEN of the volume before the copy; the end of the copy adds one. */
  generation: Type.Optional(Generation),
  /** The volume was there before the copy, empty and of this generation. */
  given: Type.Optional(Type.Literal(true)),
  format: Format,
  allocation: Allocation,
  /** As it was asked for. */
  clusterSize: Type.Optional(ClusterSize),
  virtualSize: Bytes(''),
  /** What a volume that is being made is to say of itself. */
  description: Type.Optional(Type.String({ maxLength: 512 })),
  diskType: Type.Optional(Type.String({ maxLength: 512 })),
  /** The volume's file is copied as it is: `format` is raw, `virtualSize` the length of the file. */
  layer: Type.Optional(Layer),
  chain: Type.Optional(KeptChain),
  partOf: Type.Optional(PartOf),
  verify: Type.Boolean(),
  /** Absent when an empty image is being created. */
  source: Type.Optional(Open({
    domain: DomainId,
    /** Exact, where the target's virtual size may be rounded up to 512. */
    virtualSize: Bytes(''),
    files: Type.Array(SourceFile, { minItems: 1, maxItems: 200 })
  })),
  /** The image that has the target's name, and is good until the copy takes its place. */
  replaces: Type.Optional(Identity),
  bandwidth: Type.Optional(Bandwidth),
  /** The part's inode, from `copying` on; of a volume, from before it gets its name. */
  inode: Type.Optional(Type.String({ pattern: '^[0-9]{1,20}$' })),
  windowBytes: Type.Integer({ minimum: 0 }),
  /** Durable on the target. */
  done: RangeList,
  /** May have been written: a superset of what a crash leaves half-written. */
  begun: RangeList,
  bytesMoved: Bytes(''),
  bytesPerSecond: Type.Optional(Bytes('')),
  epoch: Type.Integer({ minimum: 1 }),
  host: Open({ id: Line(255), url: Type.Optional(Line(2000)) }),
  taskId: Type.Optional(TaskId),
  createdAt: Time,
  checkpointAt: Time,
  completedAt: Type.Optional(Time),
  canceledAt: Type.Optional(Time),
  verified: Type.Optional(Type.Boolean()),
  /** The target as it was when the copy was complete. */
  target: Type.Optional(Identity)
})
export type CopyRecord = Static<typeof CopyRecord>

const validator = TypeCompiler.Compile(CopyRecord)
/** An image that is made empty is made again by the command that `fixes` tells. */
const { virtualSize, description, diskType } = CreateImage.properties
const creation = TypeCompiler.Compile(Type.Object({ virtualSize, description, diskType }))
const maxRecordBytes = 4 * 1024 * 1024

const fileName = (key: string) => `${key}.json`
const temporaryName = (key: string) => `${key}.json.new`

/** An image, or a volume of one, in a domain that is known. */
export interface Named {
  image: string
  volume?: string | undefined
}

/** What the record and the lease of an image or volume are called. Images with volumes are named by UUIDs, so no two have one key. */
export function keyOf ({ image, volume }: Named): string {
  return volume === undefined ? image : `${image}.${volume}`
}

/** An image or volume as it is called in messages. */
export function wordsOf ({ image, volume }: Named): string {
  return volume === undefined ? image : `${image}/${volume}`
}

const volumeKey = new RegExp(`^(.+)\\.(${uuidPattern.slice(1, -1)})$`)

/** The image and volume that a key stands for, in a domain whose images have volumes. */
export function namedBy (key: string): Named {
  const [, image, volume] = volumeKey.exec(key) ?? []
  return image === undefined ? { image: key } : { image, volume }
}

/** More are no work of ours, but somebody's who wants agents to run out of memory. */
const maxRecords = 50_000

const recordFile = /^(.+)\.json(?:\.new)?$/

/** The keys of all records in a domain, also of such as are only an unfinished write, sorted. Throws `record-invalid` when there are too many to be true. */
export async function recordedKeys ({ id, copies }: { id: string, copies: Directory }): Promise<string[]> {
  const names = await namesIn(copies, 2 * maxRecords, name => recordFile.test(name))
  const keys = new Set(names?.flatMap(name => recordFile.exec(name)?.[1] ?? []))
  if (names === undefined || keys.size > maxRecords) throw new AppError('record-invalid', `Domain ${id} has more than ${maxRecords} copy records, more than hosts make: they are not read. Look into .vdsm-tasks/copies there.`)
  return [...keys].sort()
}

/** A record as it is stored. */
export function recordText (record: CopyRecord): string {
  return JSON.stringify(record) + '\n'
}

/** The text of a record as it is stored now; undefined if there is none. Throws `record-invalid` for what is no file of ours. */
export async function readRecordText (copies: Directory, key: string): Promise<string | undefined> {
  return (await readText(copies, key))?.toString()
}

/**
 * Reads the record of an image; undefined if there is none. Throws `record-invalid` for anything that this product
 * would not have written: on a shared storage, other hosts can put there what they like.
 */
export async function readRecord (copies: Directory, domain: string, key: string): Promise<CopyRecord | undefined> {
  const bytes = await readText(copies, key)
  return bytes === undefined ? undefined : parseRecord(bytes.toString(), domain, key)
}

async function readText (copies: Directory, key: string): Promise<Buffer | undefined> {
  try {
    return await readOwnFile(copies, fileName(key), maxRecordBytes)
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined
    if (error instanceof NotAFileError) throw invalid(key, `its file ${error.what}`)
    throw error
  }
}

/** The stats of the file of a record. */
export async function statRecord (copies: Directory, key: string): Promise<BigIntStats | undefined> {
  return await look(copies, fileName(key))
}

/** When a record was last written, by the storage's clock, in nanoseconds. */
export async function recordWrittenAt (copies: Directory, key: string): Promise<bigint | undefined> {
  return (await statRecord(copies, key))?.mtimeNs
}

/** Checks the text of a record. Throws `record-newer` or `record-invalid`, with the first thing that is wrong. */
export function parseRecord (text: string, domain: string, key: string): CopyRecord {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw invalid(key, 'it is not JSON', error)
  }
  if (isNewer(value)) {
    throw new AppError('record-newer', `The copy record of ${key} was written by a newer agent (version ${value.version} of the record). Nothing was changed. Update this agent, or use one of that version.`)
  }
  if (!validator.Check(value)) throw invalid(key, firstFlaw(value))
  if (value.domain !== domain || keyOf(value) !== key) throw invalid(key, 'it names another image')
  if (value.source === undefined && value.phase !== 'deleting' && !creation.Check(value)) throw invalid(key, 'no image can be created so')
  if (!areRanges(value.done, value.virtualSize) || !areRanges(value.begun, value.virtualSize)) throw invalid(key, 'its ranges are not in order')
  return value
}

function isNewer (value: unknown): value is { version: number } {
  return typeof value === 'object' && value !== null && 'version' in value && Number.isInteger(value.version) && Number(value.version) > version
}

function firstFlaw (value: unknown): string {
  const first = validator.Errors(value).First()
  return `${first?.path ?? '/'}: ${first?.message ?? 'wrong'}`
}

function invalid (key: string, what: string, cause?: unknown): AppError {
  return new AppError('record-invalid', `The copy record of ${key} cannot be used: ${what}. forgetCopy removes the record and leaves the image; deleteImage removes both.`, { cause })
}

/**
 * Writes the record durably, as a whole. Only the holder of the target's lease may. What no reader would accept is not
 * written: a copy that nobody can read the record of can only be deleted.
 */
export async function writeRecord (copies: Directory, record: CopyRecord): Promise<void> {
  const key = keyOf(record)
  if (!validator.Check(record)) throw new Error(`the copy record of ${key} would be wrong: ${firstFlaw(record)}`)
  await replaceFile(copies, fileName(key), temporaryName(key), recordText(record))
}

/** Reads a record, and tells one that cannot be used from one that is not there. */
export async function readAnyRecord (copies: Directory, domain: string, key: string): Promise<{ record: CopyRecord | undefined, problem?: AppError }> {
  try {
    return { record: await readRecord(copies, domain, key) }
  } catch (error) {
    return { record: undefined, problem: recordProblem(error) }
  }
}

/** The error itself, where it says why a record cannot be used. Throws any other. */
export function recordProblem (error: unknown): AppError {
  if (error instanceof AppError && (error.code === 'record-invalid' || error.code === 'record-newer')) return error
  throw error
}

/** Reads a record whose image is to be removed, which no rubbish in it may prevent. Throws `record-newer`. */
export async function readToDelete (copies: Directory, domain: string, key: string): Promise<{ record: CopyRecord | undefined, broken: boolean }> {
  const { record, problem } = await readAnyRecord(copies, domain, key)
  if (problem?.code === 'record-newer') throw problem
  return { record, broken: problem !== undefined }
}

/** Whether a write of the record was cut off. With no record beside it, it was the first one. */
export async function hasCutOffWrite (copies: Directory, key: string): Promise<boolean> {
  return await look(copies, temporaryName(key)) !== undefined
}

/**
 * Writes an intent to delete; with no space left for it, the deletion goes on without, or nobody could ever make space.
 * Returns what puts back the record that was there before, whatever it was.
 */
export async function writeIntent (copies: Directory, intent: CopyRecord, record: CopyRecord | undefined): Promise<() => Promise<void>> {
  const key = keyOf(intent)
  const before = await readText(copies, key).catch(() => undefined)
  try {
    // the part keeps the name that it has
    await writeRecord(copies, record === undefined ? intent : { ...intent, copyId: record.copyId })
  } catch (error) {
    if (!hasErrno(error, 'ENOSPC', 'EDQUOT')) throw error
    await removeRecord(copies, key)
  }
  return async () => {
    if (before === undefined) await removeRecord(copies, key)
    else await replaceFile(copies, fileName(key), temporaryName(key), before)
  }
}

/** What a deletion, or the forgetting of a record, was offered for. */
export interface OfferedFor {
  /** Only what is there of this copy, creation or deletion, which was unfinished. */
  copyId?: string | undefined
  /** Only what is there without the record of anything unfinished that can be read. */
  withoutCopy?: boolean | undefined
}

/**
 * Makes sure that what was offered for one unfinished copy, or for what there was without one, does not hit what has become
 * of it, or another one. To be asked under the lease.
 *
 * @param isWhole there is an image that is good by itself.
 */
export function assertOffered (
  { id }: { id: string }, { copyId, withoutCopy, ...named }: Named & OfferedFor, record: CopyRecord | undefined, isWhole: boolean
): void {
  const words = `${wordsOf(named)} in domain ${id}`
  if (copyId !== undefined && record?.copyId !== copyId) {
    throw new AppError('copy-not-found', `The copy ${copyId} of ${words} is gone, or another one has its name. Nothing was changed.`)
  }
  if (copyId === undefined && withoutCopy !== true) return
  const isDone = record?.phase === 'done'
  if (isWhole || (copyId !== undefined && isDone)) {
    throw new AppError('already-complete', `${words} is a whole image by now. Nothing was changed.`)
  }
  if (withoutCopy === true && record !== undefined && !isDone) {
    throw new AppError('image-interrupted', `There is an unfinished copy, creation or deletion of ${words} by now. Nothing was changed; its fixes tell how to go on.`)
  }
}

/** Removes the record and what an interrupted write may have left. Returns whether anything was there. */
export async function removeRecord (copies: Directory, key: string): Promise<boolean> {
  const temporary = await removeFile(copies, temporaryName(key))
  const record = await removeFile(copies, fileName(key))
  return temporary || record
}

/** A record of the one kind that has no source: of an image that is being created or deleted. */
export function sourcelessRecord (area: { id: string }, named: Named, phase: 'creating' | 'deleting', { host, taskId }: Pick<CopyRecord, 'host' | 'taskId'>, shape: Pick<CopyRecord, 'format' | 'virtualSize' | 'allocation' | 'clusterSize' | 'description' | 'diskType'>): CopyRecord {
  const now = new Date().toISOString()
  const { format, virtualSize, allocation, clusterSize, description, diskType } = shape
  return {
    version: 1,
    copyId: randomUUID(),
    phase,
    domain: area.id,
    image: named.image,
    ...(named.volume !== undefined && { volume: named.volume }),
    format,
    virtualSize,
    allocation,
    ...(clusterSize !== undefined && { clusterSize }),
    ...(description !== undefined && { description }),
    ...(diskType !== undefined && { diskType }),
    verify: false,
    windowBytes: 0,
    done: [],
    begun: [],
    bytesMoved: 0,
    epoch: 1,
    host,
    ...(taskId !== undefined && { taskId }),
    createdAt: now,
    checkpointAt: now
  }
}
