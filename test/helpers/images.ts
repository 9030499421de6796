import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open, utimes } from 'node:fs/promises'
import { promisify } from 'node:util'

const exec = promisify(execFile)

export const KiB = 1024
export const MiB = 1024 * KiB

/** Runs a program to its end; any other status than 0 is an error with what it said. */
export async function sh (program: string, ...args: string[]): Promise<string> {
  return (await exec(program, args, { maxBuffer: 64 * MiB })).stdout
}

/**
 * Makes a raw disk with random data, areas of written zeros and holes, of any size. It is given a time of modification
 * in the past: copies wait for a young source to be older.
 */
export async function makeDisk (path: string, size: number, { blockBytes = 3 * MiB }: { blockBytes?: number } = {}): Promise<void> {
  const file = await open(path, 'w')
  try {
    await file.truncate(size)
    for (let at = 0, kind = 0; at < size; at += blockBytes, kind = (kind + 1) % 5) {
      const length = Math.min(blockBytes, size - at)
      // data, data, zeros, data that ends in the middle of a page, hole
      if (kind === 4) continue
      const bytes = kind === 2 ? Buffer.alloc(length) : randomBytes(kind === 3 ? Math.min(length, Math.floor(length / 2) + 777) : length)
      await file.write(bytes, 0, bytes.length, at)
    }
    // the last bytes are data, whatever the size
    const tail = randomBytes(Math.min(size, 1000))
    await file.write(tail, 0, tail.length, size - tail.length)
    await file.sync()
  } finally {
    await file.close()
  }
  await makeOld(path)
}

/** Sets the time of modification back, so that a copy need not wait. */
export async function makeOld (path: string): Promise<void> {
  const past = new Date('2026-01-01')
  await utimes(path, past, past)
}

export async function sha256 (path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer)
  return hash.digest('hex')
}

export interface FormattedFile { path: string, format: 'raw' | 'qcow2' }

/** What qemu-img says of two images: "Images are identical." or where they differ. */
export async function compare (a: FormattedFile, b: FormattedFile): Promise<string> {
  try {
    return (await sh('qemu-img', 'compare', '-f', a.format, '-F', b.format, a.path, b.path)).trim().split('\n').at(-1) ?? ''
  } catch (error) {
    return error instanceof Error && 'stdout' in error ? String(error.stdout).trim() || error.message : String(error)
  }
}

export const identical = 'Images are identical.'

/** A qcow2 header as it should be; each test spoils what it is about. */
export function qcow2Header ({ version = 3, virtualSize = MiB, clusterBits = 16, backing = '', backingFormat = '', l1Size = 1, l1Offset = 0x30000 }: { version?: number, virtualSize?: bigint | number, clusterBits?: number, backing?: string, backingFormat?: string, l1Size?: number, l1Offset?: number } = {}): Buffer {
  const header = Buffer.alloc(512)
  header.write('QFI\xfb', 0, 'latin1')
  header.writeUInt32BE(version, 4)
  if (backing !== '') {
    header.writeBigUInt64BE(200n, 8)
    header.writeUInt32BE(Buffer.byteLength(backing), 16)
    header.write(backing, 200)
  }
  if (backingFormat !== '') {
    header.writeUInt32BE(0xe2792aca, 104)
    header.writeUInt32BE(backingFormat.length, 108)
    header.write(backingFormat, 112)
  }
  header.writeUInt32BE(clusterBits, 20)
  header.writeBigUInt64BE(BigInt(virtualSize), 24)
  header.writeUInt32BE(l1Size, 36)
  header.writeBigUInt64BE(BigInt(l1Offset), 40)
  header.writeBigUInt64BE(0x10000n, 48)
  header.writeUInt32BE(1, 56)
  header.writeUInt32BE(4, 96)
  header.writeUInt32BE(104, 100)
  return header
}

/**
 * A valid little qcow2 image whose block status is endless: every entry of its first-level table points to the same
 * second-level table, in which one cluster of 512 bytes is known to be zero, the next one is absent, and so on.
 */
export function restlessImage (virtualSize: number): Buffer {
  const clusterBytes = 512
  const perTable = clusterBytes / 8
  const l1Size = Math.ceil(virtualSize / (clusterBytes * perTable))
  const l1Bytes = Math.ceil(l1Size * 8 / clusterBytes) * clusterBytes
  const l1Offset = 4 * clusterBytes
  const l2Offset = l1Offset + l1Bytes
  const image = Buffer.alloc(l2Offset + clusterBytes)
  const header = qcow2Header({ virtualSize, clusterBits: 9, l1Size, l1Offset })
  // refcounts are not looked at when an image is only read
  header.writeBigUInt64BE(BigInt(clusterBytes), 48)
  header.copy(image)
  for (let index = 0; index < l1Size; index++) image.writeBigUInt64BE(BigInt(l2Offset), l1Offset + index * 8)
  for (let index = 0; index < perTable; index += 2) image.writeBigUInt64BE(1n, l2Offset + index * 8)
  return image
}
