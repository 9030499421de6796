/** Bytes of the first cluster of a qcow2 image, which begins with this header. It must have been parsed. */
export function firstClusterBytes (header: Buffer): number {
  return 2 ** header.readUInt32BE(20)
}

const MiB = 1024 * 1024

/**
 * The longest that a qcow2 image can have become by being written: every cluster stored, with its tables, and as much
 * again of clusters that killed writers leaked. `qemu-img check` needs memory and time for all of the file, however
 * sparse it is, so a longer one is not given to it.
 */
export function longestImageBytes (virtualSize: number, clusterBytes: number): number {
  const clusters = Math.ceil(virtualSize / clusterBytes)
  const tables = Math.ceil(clusters * 8 / clusterBytes)
  const firstTable = Math.ceil(tables * 8 / clusterBytes)
  // counts of 2 bytes for all of these and for themselves, in blocks that a table lists
  const counted = Math.ceil((clusters + tables + firstTable) * 1.01)
  const counts = Math.ceil(counted * 2 / clusterBytes) * 2
  return 2 * (1 + clusters + tables + firstTable + counts) * clusterBytes + 64 * MiB
}
