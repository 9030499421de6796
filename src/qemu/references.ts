import { endOfExtensions, extensionsIn } from './extensions.ts'

// What stands in an image about other files. Nothing here is opened; it is only compared with the names of files.

/** Nearly always enough for what an image says of other files. */
export const firstBytes = 4096

const magic = 0x514649fb
const externalDataFile = 1n << 2n
const dataFileName = 0x44415441
const longestName = 1023

/**
 * The files that an image is made up of besides itself, as they stand in its header: its backing file, and where it has one,
 * its external data file. None for a file that is not qcow2. It is looked at leniently, as the file may be anything: who asks
 * wants to know what must not be removed, not whether the image is sound.
 *
 * @param start the first bytes of the file.
 * @returns undefined if more of the file must be read to tell.
 */
export function referencesIn (start: Buffer): string[] | undefined {
  if (start.length < 72 || start.readUInt32BE(0) !== magic) return []
  const backing = nameAt(start, Number(start.readBigUInt64BE(8)), start.readUInt32BE(16))
  const data = hasDataFile(start) ? dataFile(start) : ''
  if (backing === undefined || data === undefined) return undefined
  return [backing, data].filter(name => name !== '')
}

function hasDataFile (start: Buffer): boolean {
  return start.readUInt32BE(4) >= 3 && start.length >= 104 && (start.readBigUInt64BE(72) & externalDataFile) !== 0n
}

function dataFile (start: Buffer): string | undefined {
  for (const { type, at, length } of extensionsIn(start)) {
    if (type === dataFileName) return nameAt(start, at, length)
    if (type === endOfExtensions) return ''
  }
  return undefined
}

/** Empty for one that there is not, or that no image can have. */
function nameAt (start: Buffer, offset: number, length: number): string | undefined {
  if (offset === 0 || length > longestName) return ''
  return offset + length > start.length ? undefined : start.toString('utf8', offset, offset + length)
}

/** The paths of the files that a reference means: qemu takes a path, `file:` and a path, or `json:` and a description of a graph. */
export function pathsIn (reference: string): string[] {
  if (reference.startsWith('file:')) return [reference.slice('file:'.length)]
  if (!reference.startsWith('json:')) return [reference]
  try {
    return fileNamesIn(JSON.parse(reference.slice('json:'.length)))
  } catch {
    // qemu cannot make anything of it either
    return []
  }
}

function fileNamesIn (value: unknown): string[] {
  if (typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([key, member]: [string, unknown]) =>
    typeof member !== 'string' ? fileNamesIn(member) : /(^|\.)filename$/.test(key) ? pathsIn(member) : [])
}
