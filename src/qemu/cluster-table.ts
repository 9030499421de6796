/** Where the first of the two levels of tables lies that lead to the clusters of a qcow2 image (docs/interop/qcow2.txt of QEMU). */
export function firstTable (header: Buffer): { offset: number, bytes: number } {
  return { offset: Number(header.readBigUInt64BE(40)), bytes: header.readUInt32BE(36) * 8 }
}

// bits 9 to 55 of an entry; the others are flags or reserved
const offsetMask = 0x00fffffffffffe00n

/** The highest offset of a table of the second level that one of the first names; 0 if it names none. */
export function furthestTable (table: Buffer): number {
  let furthest = 0n
  for (let at = 0; at + 8 <= table.length; at += 8) {
    const offset = table.readBigUInt64BE(at) & offsetMask
    if (offset > furthest) furthest = offset
  }
  return Number(furthest)
}
