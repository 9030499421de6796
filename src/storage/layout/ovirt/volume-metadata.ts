import type { Format } from '../../../api/format.ts'
import { uuidPattern } from '../../../api/names.ts'
import { AppError } from '../../../errors.ts'
import { oneOf, parseKeyValues, refusalOf, required, wholeNumber } from './key-values.ts'

/** What the `.meta` file of a volume says (storage format V5 of oVirt; lib/vdsm/storage/volumemetadata.py of vdsm). */
export interface VolumeMetadata {
  /** Bytes of the disk that a guest sees. */
  capacity: number
  /** Seconds since 1970. */
  createdAt: number
  description: string
  diskType: string
  domain: string
  format: 'RAW' | 'COW'
  generation: number
  image: string
  legality: 'LEGAL' | 'ILLEGAL' | 'FAKE'
  /** Absent: it has no parent. */
  parent?: string
  sequence: number
  type: 'SPARSE' | 'PREALLOCATED'
  volumeType: 'LEAF' | 'INTERNAL' | 'SHARED'
}

/** A slot of metadata on block domains; files keep to it, too. */
const maxMetadataBytes = 512
/** vdsm cuts longer ones off. */
export const maxDescription = 210
export const maxGeneration = 999
const noParent = '00000000-0000-0000-0000-000000000000'

const isUuid = new RegExp(uuidPattern)

/** Reads a `.meta` file. Throws `metadata-invalid` that names the file and the key. @param file its path, for the message. */
export function parseVolumeMetadata (bytes: Uint8Array, file: string): VolumeMetadata {
  const refuse = refusalOf(file)
  if (bytes.length > maxMetadataBytes) throw refuse(`it is larger than ${maxMetadataBytes} bytes`)
  const values = parseKeyValues(bytes, refuse)
  const text = (key: string) => required(values, key, refuse)
  const number = (key: string, most = Number.MAX_SAFE_INTEGER) => wholeNumber(key, text(key), most, refuse)
  const uuid = (key: string) => {
    const value = text(key)
    if (!isUuid.test(value)) throw refuse(`the key ${key} is ${JSON.stringify(value.slice(0, 80))}, not a UUID`)
    return value
  }
  // these two are younger than the format
  const optional = (key: string, most: number) => values.has(key) ? number(key, most) : 0
  const parent = uuid('PUUID')
  return {
    capacity: number('CAP'),
    createdAt: number('CTIME'),
    description: text('DESCRIPTION'),
    diskType: text('DISKTYPE'),
    domain: uuid('DOMAIN'),
    format: oneOf(['RAW', 'COW'], 'FORMAT', text('FORMAT'), refuse),
    generation: optional('GEN', maxGeneration),
    image: uuid('IMAGE'),
    legality: oneOf(['LEGAL', 'ILLEGAL', 'FAKE'], 'LEGALITY', text('LEGALITY'), refuse),
    ...(parent !== noParent && { parent }),
    sequence: optional('SEQ', Number.MAX_SAFE_INTEGER),
    type: oneOf(['SPARSE', 'PREALLOCATED'], 'TYPE', text('TYPE'), refuse),
    volumeType: oneOf(['LEAF', 'INTERNAL', 'SHARED'], 'VOLTYPE', text('VOLTYPE'), refuse)
  }
}

/**
 * Writes a `.meta` file as vdsm does: sorted keys, `EOF` at the end. Keys that vdsm does not know are not kept: it drops
 * them, too. Throws `bad-request` for what does not fit.
 */
export function formatVolumeMetadata (metadata: VolumeMetadata): string {
  const { description } = metadata
  if (/[\r\n]/.test(description)) throw new AppError('bad-request', 'A description is one line.')
  if ([...description].length > maxDescription) throw new AppError('bad-request', `A description has at most ${maxDescription} characters.`)
  const values: Record<string, string | number> = {
    CAP: metadata.capacity,
    CTIME: metadata.createdAt,
    DESCRIPTION: description,
    DISKTYPE: metadata.diskType,
    DOMAIN: metadata.domain,
    FORMAT: metadata.format,
    GEN: metadata.generation,
    IMAGE: metadata.image,
    LEGALITY: metadata.legality,
    PUUID: metadata.parent ?? noParent,
    SEQ: metadata.sequence,
    TYPE: metadata.type,
    VOLTYPE: metadata.volumeType
  }
  const text = Object.keys(values).sort().map(key => `${key}=${values[key]}\n`).join('') + 'EOF\n'
  if (Buffer.byteLength(text) > maxMetadataBytes) throw new AppError('bad-request', `The metadata of a volume has room for ${maxMetadataBytes} bytes: this description is too long.`)
  return text
}

/** What comes after a generation: it wraps. */
export function nextGeneration (generation: number): number {
  return (generation + 1) % (maxGeneration + 1)
}

/** The format of a volume in our words. */
export function formatOf ({ format }: Pick<VolumeMetadata, 'format'>): Format {
  return format === 'RAW' ? 'raw' : 'qcow2'
}
