import { readBytes } from '../system/directory.ts'
import { firstClusterBytes } from './geometry.ts'
import { invalidImage } from './header.ts'

/**
 * The first cluster of a qcow2 file: header, extensions, and the name of its backing file. All of what makes qemu open
 * other files stands in it.
 */
export interface HeaderState {
  readonly cluster: Buffer
}

/** Where the table of reference counts lies, and how long it is: an image that grows gets another one. */
const movingTable = { start: 48, end: 60 } as const

/**
 * Takes the state of a header.
 *
 * @param validated the beginning of the file, as it was found to be harmless: what has changed since is refused.
 */
export async function headerState (fd: number, image: string, validated: Buffer): Promise<HeaderState> {
  const state = { cluster: await readBytes(fd, firstClusterBytes(validated)) }
  const length = Math.min(validated.length, state.cluster.length)
  if (!isSame(state.cluster.subarray(0, length), validated.subarray(0, length))) throw invalidImage(image, 'its header was changed while it was looked at')
  return state
}

/** Whether the header of a file still is as it was, but for what qemu-img changes when it writes to the image. */
export async function hasState (fd: number, { cluster }: HeaderState): Promise<boolean> {
  return isSame(await readBytes(fd, cluster.length), cluster)
}

function isSame (a: Buffer, b: Buffer): boolean {
  const { start, end } = movingTable
  return a.length === b.length && a.subarray(0, start).equals(b.subarray(0, start)) && a.subarray(end).equals(b.subarray(end))
}
