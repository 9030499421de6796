/** A header extension of a qcow2 image (docs/interop/qcow2.txt of QEMU): its type, and where its data is. */
export interface Extension {
  type: number
  at: number
  length: number
}

/** Ends the list of extensions. */
export const endOfExtensions = 0

const backingFormatName = 0xe2792aca
const bitmaps = 0x23852875
const bitmapsAreConsistent = 1n

/** The extensions in the first bytes of an image, the end of the list too, as far as these bytes reach. */
export function * extensionsIn (start: Buffer): Generator<Extension> {
  const headerLength = start.readUInt32BE(4) >= 3 && start.length >= 104 ? start.readUInt32BE(100) : 72
  for (let at = headerLength; at + 8 <= start.length;) {
    const [type, length] = [start.readUInt32BE(at), start.readUInt32BE(at + 4)]
    yield { type, at: at + 8, length }
    if (type === endOfExtensions) return
    at += 8 + Math.ceil(length / 8) * 8
  }
}

/** The format that an image declares of its backing file; any word, where somebody else has written it. */
export function backingFormatIn (start: Buffer): string | undefined {
  for (const { type, at, length } of extensionsIn(start)) {
    if (type === backingFormatName) return start.toString('utf8', at, at + length)
  }
  return undefined
}

/** Where the list of persistent bitmaps lies, if there is one that holds. */
export function bitmapDirectory (start: Buffer): { offset: number, bytes: number } | undefined {
  if (start.readUInt32BE(4) < 3 || (start.readBigUInt64BE(88) & bitmapsAreConsistent) === 0n) return undefined
  for (const { type, at, length } of extensionsIn(start)) {
    if (type !== bitmaps || length < 24 || at + 24 > start.length) continue
    return { bytes: Number(start.readBigUInt64BE(at + 8)), offset: Number(start.readBigUInt64BE(at + 16)) }
  }
  return undefined
}
