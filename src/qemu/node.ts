import type { Format } from '../api/format.ts'

/** A file of an image, by the number its descriptor has in the program that is started. */
export interface NodeFile {
  fd: number
  format: Format
  /** Unless this is false, qemu's locks keep out whom it does not go together with, and are held as long as it has the file open. */
  locking?: boolean
}

interface BlockNode {
  driver: string
  file?: BlockNode
  [option: string]: unknown
}

const fileNode = (fd: number, locking = true): BlockNode =>
  ({ driver: 'file', filename: `/proc/self/fd/${fd}`, ...(!locking && { locking: 'off' }) })

/**
 * Cache for the tables of one file of a chain, in bytes. qemu would take up to 32 MiB for each: a long chain of large
 * disks needs gigabytes. A disk is read from front to back, and with clusters of 64 KiB this covers 6 GiB of it.
 */
const chainCacheBytes = 1024 * 1024

/**
 * The block graph of an image and its backing files, base last. Every node is named outright and the chain ends with
 * `backing: null`: qemu opens what it is given and nothing that an image asks for.
 */
export function imageNode (chain: readonly [NodeFile, ...NodeFile[]]): BlockNode {
  return chainNode(chain, chain.length === 1 ? {} : { 'cache-size': chainCacheBytes })
}

function chainNode ([top, ...backing]: readonly [NodeFile, ...NodeFile[]], options: Readonly<Record<string, unknown>>): BlockNode {
  const file = fileNode(top.fd, top.locking)
  if (top.format === 'raw') return { driver: 'raw', file }
  const [first, ...rest] = backing
  return {
    driver: 'qcow2', ...options, file, backing: first === undefined ? null : chainNode([first, ...rest], options)
  }
}

/**
 * A file that is opened for reading, and not shared with other readers. Every qemu that has a file open holds a read lock on
 * byte 100 of it, the permission `consistent-read`, and asks for the locks of those permissions that it does not share. Of
 * all drivers only blkdebug can be told not to share this one. The lock is asked for and not taken (F_OFD_GETLK), so that a
 * descriptor for reading is enough; it is seen from other hosts where the file system forwards locks.
 */
export function soleReaderNode (fd: number): BlockNode {
  return {
    driver: 'blkdebug',
    image: fileNode(fd),
    'take-child-perms': ['consistent-read'],
    'unshare-child-perms': ['consistent-read', 'write', 'write-unchanged', 'resize']
  }
}

/** A part of an image as if it were a raw disk of its own. */
export function windowNode (node: BlockNode, offset: number, size: number): BlockNode {
  return { driver: 'raw', offset, size, file: node }
}

/**
 * A part of an image whose block status is that of the whole chain. A raw node has the status of the node below it, without
 * what that is based on: `compare` (qemu 7.2) takes what the top does not have for zeros, and two such parts for the same
 * without reading them (shown by a test). A quorum of one asks all of the chain.
 */
export function statusWindowNode (node: BlockNode, offset: number, size: number): BlockNode {
  return windowNode({ driver: 'quorum', 'vote-threshold': 1, 'read-pattern': 'fifo', children: [node] }, offset, size)
}

/** A disk of zeros. */
export function zerosNode (size: number): BlockNode {
  return { driver: 'null-co', size, 'read-zeroes': true }
}

/** A node as a file name, which every qemu-img command takes. */
export function nodeName (node: BlockNode): string {
  return `json:${JSON.stringify(node)}`
}

interface TargetOptions {
  preallocated: boolean
  locking: boolean
  writeZeros: boolean
  direct?: boolean
  /** Only for what is opened past the page cache, by `direct` or `-t none`. */
  nativeAio?: boolean
}

/** qemu's block layer writes zeros itself where a driver says ENOTSUP; blkdebug can be told to say so. */
const refuseZeroing = { event: 'none', iotype: 'write-zeroes', errno: 95 } as const

/**
 * A window of a target as if it were a raw disk of its own.
 * Preallocated targets must never be punched: a redone window would give back what was reserved. Other raw targets are:
 * there, zeros of a redone window would take space.
 * Several windows of a raw target are written at once, by a process each, and one that opens the file while another does
 * may be refused by qemu's own lock ("resize" lock, qemu 7.2): without `locking`, others must be kept out by other means.
 * `direct` bypasses the page cache, whatever `-t` says; it is what `-t none` does but for the flush at the end.
 * `writeZeros` has zeros written as data: qemu otherwise asks the file system to zero a range, and GlusterFS mounted by
 * FUSE (10.3) says yes to FALLOC_FL_ZERO_RANGE and leaves what was there. Where a new run takes the space of a cluster
 * that a killed one had written, the rest of a cluster that is written in part then reads as old data (shown by a test).
 * Punched holes do read as zeros there.
 */
export function targetNode ({ fd, format }: NodeFile, offset: number, size: number, options: TargetOptions): BlockNode {
  const { preallocated, locking, writeZeros, direct = false, nativeAio = false } = options
  const discarding = preallocated ? 'off' : format === 'raw' ? 'unmap' : undefined
  const discard = discarding === undefined ? {} : { discard: discarding }
  const file = { ...fileNode(fd, format !== 'raw' || locking), ...discard, ...(nativeAio && { aio: 'native' }) }
  const below = writeZeros ? { driver: 'blkdebug', image: file, 'inject-error': [refuseZeroing], ...discard } : file
  // no header of a target may name a file for qemu to open
  const image = format === 'raw' ? below : { driver: 'qcow2', backing: null, file: below, ...discard }
  return { driver: 'raw', offset, size, file: image, ...discard, ...(direct && { cache: { direct: true } }) }
}
