import { AppError } from '../errors.ts'

/** What we read ourselves of a qcow2 header, before any program of others opens the file. */
export interface Qcow2Header {
  virtualSize: number
  clusterBytes: number
  /** How many internal snapshots it has. */
  snapshots: number
  /** The name of the backing file as it stands in the image, if there is one. */
  backing?: string
}

/** Enough for the header and the longest backing file name that the format allows. */
export const headerBytes = 64 * 1024

const magic = 0x514649fb
const externalDataFile = 1n << 2n

/** Why an image is not given to any program. */
export function invalidImage (image: string, what: string): AppError {
  return new AppError('image-invalid', `Image ${image} is not used: ${what}.`)
}

/** Why a backing file is not read whose format nobody declares. */
export function undeclaredFormat (overlay: string, name: string, why: string): AppError {
  return invalidImage(overlay, `it does not declare the format of its backing file ${name}, ${why}. Declare it with qemu-img rebase -u -F FORMAT -b ${name} ${overlay}`)
}

/**
 * Parses a qcow2 header (docs/interop/qcow2.txt of QEMU). Throws `image-invalid` for anything that is none and for
 * images with an external data file: opening such an image opens whatever file it names (CVE-2024-32498), so the
 * check has to come before qemu sees it.
 *
 * @param fileBytes the size of the file. qemu reads what is beyond its end as zeros: of an image that was cut off before
 *   its table of clusters, say by a download that broke, it would make an empty disk without a word.
 */
export function parseQcow2Header (bytes: Buffer, image: string, fileBytes: number): Qcow2Header {
  const refuse = (what: string) => invalidImage(image, what)
  if (bytes.length < 72) throw refuse('it is too short for a qcow2 header. If it is raw, say "format": "raw"')
  if (bytes.readUInt32BE(0) !== magic) throw refuse('it does not begin like a qcow2 image. If it is raw, say "format": "raw"')
  const version = bytes.readUInt32BE(4)
  if (version !== 2 && version !== 3) throw refuse(`its qcow2 version is ${version}, only 2 and 3 are known`)
  if (version === 3 && bytes.length < 104) throw refuse('its qcow2 header is cut off')
  if (version === 3 && (bytes.readBigUInt64BE(72) & externalDataFile) !== 0n) throw refuse('it keeps its data in another file, which is not supported')
  const clusterBits = bytes.readUInt32BE(20)
  if (clusterBits < 9 || clusterBits > 21) throw refuse(`its cluster size is 2^${clusterBits}, which qcow2 does not allow`)
  if (bytes.readUInt32BE(32) !== 0) throw refuse('it is encrypted, which is not supported')
  const virtualSize = bytes.readBigUInt64BE(24)
  if (virtualSize > BigInt(Number.MAX_SAFE_INTEGER)) throw refuse(`it claims a virtual size of ${virtualSize} bytes`)
  const tableBytes = BigInt(bytes.readUInt32BE(36)) * 8n
  const tableEnd = bytes.readBigUInt64BE(40) + tableBytes
  if (tableBytes > 0n && tableEnd > BigInt(fileBytes)) throw refuse(`it is cut off: its table of clusters ends at byte ${tableEnd}, the file at ${fileBytes}`)

  const backingOffset = bytes.readBigUInt64BE(8)
  const backingLength = bytes.readUInt32BE(16)
  const header = { virtualSize: Number(virtualSize), clusterBytes: 2 ** clusterBits, snapshots: bytes.readUInt32BE(60) }
  if (backingOffset === 0n) return header
  if (backingLength > 1023 || backingOffset + BigInt(backingLength) > BigInt(bytes.length)) throw refuse('the name of its backing file lies outside the header')
  const start = Number(backingOffset)
  return { ...header, backing: bytes.toString('utf8', start, start + backingLength) }
}
