import { AppError } from '../errors.ts'

/** The largest that disks have. */
const blockBytes = 4096

/**
 * A size in whole blocks of the largest kind that storage has. vdsm makes volumes so, and a raw image of another size cannot be
 * opened past the page cache on such storage. Throws `file-too-large` where that is more than a number can hold exactly.
 */
export function wholeBlocks (bytes: number): number {
  const whole = Math.ceil(bytes / blockBytes) * blockBytes
  if (Number.isSafeInteger(whole)) return whole
  throw new AppError('file-too-large', `No storage can have a disk of ${bytes} bytes: rounded up to 4 KiB, it has more than ${Number.MAX_SAFE_INTEGER}. Choose a smaller size.`)
}
