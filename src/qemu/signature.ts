import { readBytes } from '../system/directory.ts'

/** How images begin that are not raw: of those formats that qemu knows by their first bytes (`bdrv_probe` of its drivers). */
const signatures: ReadonlyArray<readonly [format: string, signature: string, offset?: number]> = [
  ['qcow2', 'QFI\xfb'],
  ['qed', 'QED\0'],
  ['vmdk', 'KDMV'],
  ['vmdk', 'COWD'],
  ['vmdk', '# Disk DescriptorFile'],
  ['vhdx', 'vhdxfile'],
  ['vpc', 'conectix'],
  ['vdi', '\x7f\x10\xda\xbe', 64],
  ['luks', 'LUKS\xba\xbe'],
  ['parallels', 'WithoutFreeSpace'],
  ['parallels', 'WithouFreSpacExt'],
  ['bochs', 'Bochs Virtual HD Image'],
  ['cloop', '#!/bin/sh\n#V2.0 Format\nmodprobe cloop']
]

/** How other files begin that are handed round as disks, and are none. */
const wrappings: ReadonlyArray<readonly [format: string, signature: string, offset?: number]> = [
  ['gzip', '\x1f\x8b\x08'],
  ['xz', '\xfd7zXZ\0'],
  ['zstd', '\x28\xb5\x2f\xfd'],
  ['bzip2', 'BZh'],
  ['zip', 'PK\x03\x04'],
  ['tar', 'ustar', 257]
]

/** How images end whose beginning is the disk itself: in their last 512 bytes, or, as old programs wrote VHD, 511. */
const trailers = [['vpc', 'conectix'], ['dmg', 'koly']] as const

/** Enough of a file to find any signature in it. */
export const signatureBytes = 512

/**
 * The format that a file looks like by its first bytes; undefined if it looks raw. It never decides how a file is read:
 * a guest can write any signature into its raw disk. It only tells where an undeclared format must not be assumed.
 */
export function looksLike (start: Buffer): string | undefined {
  return beginningOf(start, signatures)
}

function beginningOf (start: Buffer, known: typeof signatures): string | undefined {
  const text = start.toString('latin1', 0, signatureBytes)
  return known.find(([, signature, offset = 0]) => text.startsWith(signature, offset))?.[0]
}

function endingOf (end: Buffer): string | undefined {
  const text = end.toString('latin1')
  return trailers.find(([, signature]) => text.startsWith(signature) || text.startsWith(signature, 1))?.[0]
}

/** What people call these formats. */
const names: Readonly<Record<string, string>> = { vpc: 'VHD', vmdk: 'VMDK', vhdx: 'VHDX', vdi: 'VDI', qed: 'QED', luks: 'LUKS', dmg: 'DMG', parallels: 'Parallels', bochs: 'Bochs' }

/**
 * What a file is, in words, if it looks like something else than a raw disk, and how to make an image of it. By its first
 * bytes and its last ones: a VHD of fixed size has nothing but a footer.
 */
export async function containerIn (fd: number, fileBytes: number): Promise<{ format: string, words: string, remedy: string } | undefined> {
  const start = await readBytes(fd, signatureBytes)
  const end = fileBytes < signatureBytes ? Buffer.alloc(0) : await readBytes(fd, signatureBytes, fileBytes - signatureBytes)
  const image = looksLike(start) ?? endingOf(end)
  if (image === 'qcow2') return { format: image, words: 'a qcow2 image', remedy: 'If it is one, say "format": "qcow2"' }
  if (image !== undefined) {
    const words = `a ${names[image] ?? image} image`
    return { format: image, words, remedy: `If it is one, convert it: qemu-img convert -f ${image} -O qcow2` }
  }
  const wrapping = beginningOf(start, wrappings)
  return wrapping === undefined ? undefined : { format: wrapping, words: `a ${wrapping} file`, remedy: 'If it is one, unpack it first' }
}
