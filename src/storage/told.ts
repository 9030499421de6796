// What an inode says is whatever somebody wrote there: a sparse file of 8 EiB, a time in the year 200000. One such file must not
// make the list of a whole domain an answer that cannot be given.

const mostBytes = BigInt(Number.MAX_SAFE_INTEGER)
const firstMs = Date.parse('0000-01-01T00:00:00.000Z')
const lastMs = Date.parse('9999-12-31T23:59:59.999Z')

/** Whether a length can be told exactly; more is that of no disk. */
export function isTellable (bytes: bigint): boolean {
  return bytes <= mostBytes
}

/** A length in bytes; of those that cannot be told, the greatest that can. */
export function tellBytes (bytes: bigint): number {
  return Number(isTellable(bytes) ? bytes : mostBytes)
}

/** Milliseconds since 1970 as RFC 3339 has them; of times that it has no year for, the nearest. */
export function tellTime (ms: bigint): string {
  return new Date(Math.min(lastMs, Math.max(firstMs, Number(ms)))).toISOString()
}
