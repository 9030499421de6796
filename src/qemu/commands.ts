import type { Allocation, Format } from '../api/format.ts'
import { imageNode, nodeName, soleReaderNode, statusWindowNode, targetNode, windowNode, zerosNode, type NodeFile } from './node.ts'

type Argv = readonly [string, ...string[]]
type Chain = readonly [NodeFile, ...NodeFile[]]

/**
 * Reads the first sector and throws it away. qemu-img refuses while a guest has the file open for writing, which
 * neither a clone nor `info` would notice.
 */
export function probeCommand (chain: Chain, virtualSize: number): Argv {
  // an empty image has no first sector
  const node = virtualSize === 0 ? imageNode(chain) : windowNode(imageNode(chain), 0, 512)
  return ['qemu-img', 'convert', '-n', '--target-image-opts', nodeName(node), 'driver=null-co,size=512']
}

/**
 * Opens a file as if nobody else might even read it, whatever is in it: refused while a guest, an export or a running overlay
 * has it open. It then always fails, because the target is too small; only the words of the refusal matter.
 */
export function lockProbeCommand (fd: number): Argv {
  return ['qemu-img', 'convert', '-n', '--target-image-opts', nodeName(soleReaderNode(fd)), 'driver=null-co,size=0']
}

/** Lists which parts of an image hold data and which read as zeros, as JSON. */
export function mapCommand (chain: Chain, offset: number, length: number): Argv {
  return ['qemu-img', 'map', '--output=json', `--start-offset=${offset}`, `--max-length=${length}`, nodeName(imageNode(chain))]
}

/** Makes an empty image in an existing, empty file. */
export function createCommand (file: NodeFile, virtualSize: number, allocation: Allocation, clusterSize?: number): Argv {
  const options = [
    ...(allocation === 'preallocated' ? ['-o', 'preallocation=falloc'] : []),
    ...(clusterSize === undefined ? [] : ['-o', `cluster_size=${clusterSize}`])
  ]
  return ['qemu-img', 'create', '-q', '-f', file.format, ...options, `/proc/self/fd/${file.fd}`, String(virtualSize)]
}

export interface Window {
  offset: number
  /** A multiple of 512. */
  length: number
  /** Nothing was ever written there, so it reads as zeros. */
  targetIsZero: boolean
}

/** How the target is cached while a window is written. */
export type CacheMode = 'none' | 'writeback' | 'unsafe'

/**
 * Copies one window. `-W` writes out of order. Past the page cache and with the kernel's own asynchronous I/O, 16 requests
 * are in flight, as many as qemu-img can have. With threads it is 4: ext4 and XFS let one of them write a file at a time,
 * and 16 spend up to eight times the processor time waiting for each other (npm run bench -- copy).
 * Not io_uring, although its processes end 30 ms sooner: that is the time in which the kernel lets what is in flight come to its
 * end. With a ring it does so after the process, and its lease, are gone; a killed copy could write under its successor.
 */
export function convertCommand (chain: Chain, target: NodeFile, window: Window, options: { cache: CacheMode, direct?: boolean, nativeAio?: boolean, preallocated: boolean, locking: boolean, writeZeros: boolean, bytesPerSecond: number | undefined }): Argv {
  const { offset, length, targetIsZero } = window
  return [
    'qemu-img', 'convert', '-n', '-W', '-m', options.nativeAio ? '16' : '4', '-t', options.cache, '-O', 'raw',
    ...(targetIsZero ? ['--target-is-zero'] : []),
    ...(options.bytesPerSecond === undefined ? [] : ['-r', String(options.bytesPerSecond)]),
    nodeName(windowNode(imageNode(chain), offset, length)),
    nodeName(targetNode(target, offset, length, options))
  ]
}

/**
 * Environment in which glibc takes a program's buffers from huge pages, one beside the other. What is written past the page
 * cache from scattered small pages reaches the device in pieces, since it takes so many segments at a time: with 254 of them
 * (virtio) 1 MB of a request of 2. Programs of another libc do not look at it, nor do kernels that have no huge pages.
 * https://www.gnu.org/software/libc/manual/html_node/Memory-Allocation-Tunables.html
 */
export const hugeBuffers = { GLIBC_TUNABLES: 'glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=1073741824:glibc.malloc.top_pad=67108864' } as const

/** Compares two images, or one with zeros, or the same part of both; status 0: identical, 1: different. Prints its progress. */
export function compareCommand (a: Chain, b: Chain | 'zeros', part?: Pick<Window, 'offset' | 'length'>): Argv {
  const nodeOf = (chain: Chain) =>
    part === undefined ? imageNode(chain) : statusWindowNode(imageNode(chain), part.offset, part.length)
  return ['qemu-img', 'compare', '-p', nodeName(nodeOf(a)), nodeName(b === 'zeros' ? zerosNode(part?.length ?? 0) : nodeOf(b))]
}

/**
 * Repairs what a killed writer leaves in a qcow2 image: clusters that nobody refers to. Status 0 or 3: sound now.
 * It prints a line for each cluster, up to half the image: discard its output.
 */
export function repairLeaksCommand (fd: number): Argv {
  return ['qemu-img', 'check', '-q', '-r', 'leaks', nodeName(imageNode([{ fd, format: 'qcow2' }]))]
}

/** The whole percentages that `-p` printed last, 0 to 100. */
export function parsePercentage (text: string): number | undefined {
  const last = [...text.matchAll(/\((\d+\.\d+)\/100%\)/g)].at(-1)?.[1]
  return last === undefined ? undefined : Number(last)
}

/** Where `compare` found the first difference; undefined if it did not say. */
export function parseDifference (text: string): number | undefined {
  const offset = /Content mismatch at offset (\d+)!/.exec(text)?.[1]
  return offset === undefined ? undefined : Number(offset)
}

/** The format names qemu and we agree on; any other is not for us. */
export function isFormat (name: string): name is Format {
  return name === 'raw' || name === 'qcow2'
}
