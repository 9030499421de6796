/** The largest that disks have. */
const blockBytes = 4096

/**
 * A size in whole blocks of the largest kind that storage has. vdsm makes volumes so, and a raw image of another size cannot be
 * opened past the page cache on such storage.
 */
export function wholeBlocks (bytes: number): number {
  return Math.ceil(bytes / blockBytes) * blockBytes
}
