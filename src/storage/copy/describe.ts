import { assertComplete } from '../../qemu/completeness.ts'
import { backingFormatIn } from '../../qemu/extensions.ts'
import { extrasOf, type Extras } from '../../qemu/extras.ts'
import { headerBytes } from '../../qemu/header.ts'
import { headerState, type HeaderState } from '../../qemu/header-state.ts'
import { readBytes } from '../../system/directory.ts'
import { parseFile } from '../layout/soundness.ts'
import type { Backing } from '../layout/source-chain.ts'

/** What a qcow2 file says of itself. */
export interface Described {
  /** Of the disk that a guest sees. */
  size: number
  backing: Backing | undefined
  extras: Extras
  clusterBytes: number
  header: HeaderState
}

/** Tables of the second level that are looked at for data that was cut off, before the block status tells of all. */
const sourceTableBytes = 64 * 1024 * 1024

/**
 * Reads of a qcow2 file what a copy needs to know before qemu opens it: a chain may have 200 of them, and each program
 * costs more than all that is read here. Whether qemu can open it, shows when it does. Throws `image-invalid`.
 */
export async function describeQcow2 (fd: number, fileBytes: number, image: string): Promise<Described> {
  const start = await readBytes(fd, headerBytes)
  const { virtualSize: size, clusterBytes, backing: name } = await parseFile(fd, start, image, fileBytes)
  // where its data lies, the block status tells
  await assertComplete(fd, start, image, { secondTableBytes: sourceTableBytes })
  const extras = await extrasOf(fd, start, image)
  const backing = name === undefined ? undefined : { name, format: backingFormatIn(start) }
  return { size, backing, extras, clusterBytes, header: await headerState(fd, image, start) }
}
