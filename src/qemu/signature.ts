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
  ['parallels', 'WithouFreSpacExt']
]

/** Enough of a file to find any signature in it. */
export const signatureBytes = 512

/**
 * The format that a file looks like by its first bytes; undefined if it looks raw. It never decides how a file is read:
 * a guest can write any signature into its raw disk. It only tells where an undeclared format must not be assumed.
 */
export function looksLike (start: Buffer): string | undefined {
  const text = start.toString('latin1', 0, signatureBytes)
  return signatures.find(([, signature, offset = 0]) => text.startsWith(signature, offset))?.[0]
}
