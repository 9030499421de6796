// Where a qcow2 image keeps its tables, by its header (docs/interop/qcow2.txt of QEMU).

/** The first of the two levels of tables that lead to the clusters. */
export function firstTable (header: Buffer): { offset: number, bytes: number } {
  return { offset: Number(header.readBigUInt64BE(40)), bytes: header.readUInt32BE(36) * 8 }
}

/** The table of the blocks that count who refers to each cluster. */
export function refcountTable (header: Buffer, clusterBytes: number): { offset: number, bytes: number } {
  return { offset: Number(header.readBigUInt64BE(48)), bytes: header.readUInt32BE(56) * clusterBytes }
}

/** The list of internal snapshots. */
export function snapshotTable (header: Buffer): { offset: number, count: number } {
  return { offset: Number(header.readBigUInt64BE(64)), count: header.readUInt32BE(60) }
}

const subclusters = 1n << 4n

/** Whether entries of the second level have 16 bytes: 8 more that tell of each part of a cluster. */
export function hasSubclusters (header: Buffer): boolean {
  return header.readUInt32BE(4) >= 3 && (header.readBigUInt64BE(72) & subclusters) !== 0n
}
