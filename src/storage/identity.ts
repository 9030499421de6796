import { Type, type Static } from '@sinclair/typebox'
import type { BigIntStats } from 'node:fs'

/** As many digits as the seconds of an inode have, which are 64 bits, and nine. */
const Nanoseconds = Type.String({ pattern: '^-?[0-9]{1,28}$' })

/**
 * What tells one content of a file from another without reading it. No device number: it differs from host to host.
 * Nanoseconds are strings, they do not fit a JSON number.
 */
export const Identity = Type.Object({
  inode: Type.String({ pattern: '^[0-9]{1,20}$' }),
  size: Type.Integer({ minimum: 0 }),
  modified: Nanoseconds,
  changed: Nanoseconds,
  born: Type.Optional(Nanoseconds)
})
export type Identity = Static<typeof Identity>

/**
 * The inode of a file, as decimal digits. Node reads it as a signed number, but it is not: GlusterFS makes it from a hash,
 * so that it is 2^63 or more for every other file, and would be negative.
 */
export function inodeOf ({ ino }: Pick<BigIntStats, 'ino'>): string {
  return String(BigInt.asUintN(64, ino))
}

/** Takes the identity of a file from its stats. */
export function identityOf (stats: BigIntStats): Identity {
  // where the file system keeps no time of birth, Node fills in another one or zero
  const born = stats.birthtimeNs > 0n && stats.birthtimeNs < stats.ctimeNs ? { born: String(stats.birthtimeNs) } : {}
  return { inode: inodeOf(stats), size: Number(stats.size), modified: String(stats.mtimeNs), changed: String(stats.ctimeNs), ...born }
}

/** The names of what differs between two identities. */
export function differences (a: Identity, b: Identity): string[] {
  const keys = ['inode', 'size', 'modified', 'changed', 'born'] as const
  // a birth later seen through another file system client may be missing there
  return keys.filter(key => a[key] !== b[key] && !(key === 'born' && (a.born === undefined || b.born === undefined)))
}

/** Whether two identities are of the same content: a hard link or a changed mode changes nothing in the file. */
export function isSameContent (a: Identity, b: Identity): boolean {
  return differences(a, b).every(what => what === 'changed')
}
