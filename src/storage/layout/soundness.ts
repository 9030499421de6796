import { AppError } from '../../errors.ts'
import type { Format } from '../../api/format.ts'
import { assertComplete } from '../../qemu/completeness.ts'
import { backingFormatIn } from '../../qemu/extensions.ts'
import { headerBytes, invalidImage, parseQcow2Header, type Qcow2Header } from '../../qemu/header.ts'
import { containerIn, looksLike } from '../../qemu/signature.ts'
import { readBytes, statFd } from '../../system/directory.ts'
import { escapeUnprintable } from '../../unprintable.ts'
import { isTellable, tellTime } from '../told.ts'
import type { Backing } from './source-chain.ts'

/** What the status of an image tells beyond its record, without running a program on it. */
export interface Soundness {
  /** Why it is not to be used. */
  problem?: string
  /** What may be wrong. */
  warnings: string[]
  /** Of the disk that a guest sees. */
  virtualSize?: number
}

/** A file of a chain, as far as a look at its header and tables tells. */
export interface LookedAt {
  virtualSize: number
  /** Nanoseconds since 1970. */
  modified: bigint
  /** What it says of the file below it. */
  backing?: Backing
  /** What may be wrong with it by itself. */
  warnings: string[]
}

/** Tables of the second level that are read for a status: they lead to 64 GiB of data with the usual clusters. */
const secondTableBytes = 8 * 1024 * 1024

/** Looks whether a file can be what it is said to be. Throws `image-invalid`. */
export async function lookAtFile (fd: number, image: string, format: Format): Promise<LookedAt> {
  const start = format === 'raw' ? undefined : await readBytes(fd, headerBytes)
  const { size, mtimeNs: modified } = await statFd(fd)
  if (start === undefined) {
    if (!isTellable(size)) throw invalidImage(image, `it claims a virtual size of ${size} bytes`)
    return { virtualSize: Number(size), modified, warnings: await rawWarnings(fd, Number(size), image) }
  }
  const { virtualSize, backing } = await parseFile(fd, start, image, Number(size))
  await assertComplete(fd, start, image, { secondTableBytes })
  if (backing === undefined) return { virtualSize, modified, warnings: [] }
  return { virtualSize, modified, warnings: [], backing: { name: backing, format: backingFormatIn(start) } }
}

/** Parses the header of a qcow2 file. Throws `image-invalid`, which says of another container what that is. */
export async function parseFile (fd: number, start: Buffer, image: string, fileBytes: number): Promise<Qcow2Header> {
  const container = looksLike(start) === 'qcow2' ? undefined : await containerIn(fd, fileBytes)
  if (container !== undefined) throw invalidImage(image, `it is no qcow2 image, but looks like ${container.words}. ${container.remedy}`)
  return parseQcow2Header(start, image, fileBytes)
}

/**
 * Warns of a file that is read as raw and looks like something else. No more than that: what is in a raw disk its guest
 * writes, who could put there what would make it another image for us.
 */
export async function rawWarnings (fd: number, fileBytes: number, image: string): Promise<string[]> {
  const container = await containerIn(fd, fileBytes)
  if (container === undefined) return []
  return [`Image ${shown(image)} is read as raw, byte for byte, and looks like ${container.words}. ${container.remedy}.`]
}

/** The problem that a look has found. Throws whatever else was thrown. */
export function problemIn (error: unknown): string {
  if (error instanceof AppError && error.code === 'image-invalid') return error.message
  throw error
}

/**
 * Warns of files that were written after the one above them, as far as their times show: it was made of what was there
 * before. A base that was only restored has a new time, too.
 *
 * @param chain the files of an image, top first.
 */
export function newerBases (chain: ReadonlyArray<{ name: string, modified: bigint }>): string[] {
  return chain.slice(1).flatMap((base, index) => {
    const overlay = chain[index]
    if (overlay === undefined || base.modified <= overlay.modified) return []
    const [written, before] = [base, overlay].map(({ modified }) => tellTime(modified / 1_000_000n))
    const [below, above] = [shown(base.name), shown(overlay.name)]
    return [`${below} was written (${written}) after ${above} (${before}), which is based on it. Unless it has the same ` +
      `content as before, say because it was restored, what ${above} shows is damaged.`]
  })
}

/** A name in words: it may come from an image that anybody has made. */
export function shown (name: string): string {
  return escapeUnprintable(name.slice(0, 200))
}
