import type { BigIntStats } from 'node:fs'
import { look, type Directory } from '../system/directory.ts'
import { differences, identityOf, isSameContent, type Identity } from './identity.ts'
import { keyOf, recordWrittenAt, type CopyRecord } from './record.ts'

/**
 * What the file that has the name of a copy is to its record: the very file that the copy has left, that file after
 * somebody wrote to it, or another one.
 */
export type FileStanding = 'same' | 'written' | 'other'

/** Judges a file by the record of a copy whose end may have come: in the phases `finishing` and `done`. */
export function fileStanding (record: CopyRecord, found: Identity): FileStanding {
  if (record.phase !== 'finishing' && record.phase !== 'done') return 'other'
  const { target } = record
  if (target === undefined) return standingByInode(record, found)
  if (isSameContent(target, found)) return 'same'
  return differences(target, found).some(what => what === 'inode' || what === 'born') ? 'other' : 'written'
}

/** Agents before this member was written noted the inode alone of a copy that was about to end. */
function standingByInode ({ inode, format, layer, virtualSize }: CopyRecord, found: Identity): FileStanding {
  if (found.inode !== inode) return 'other'
  return format === 'raw' && layer === undefined && found.size !== virtualSize ? 'written' : 'same'
}

/**
 * Whether an intent to delete means this very file. An older one does not say which: it means what nobody
 * has touched since, by the storage's own clock. That clock ticks slowly: in the same instant, it may have been after.
 */
export async function isMeantBy (intent: CopyRecord, copies: Directory, stats: BigIntStats): Promise<boolean> {
  if (intent.target !== undefined) return isSameContent(intent.target, identityOf(stats))
  const writtenAt = await recordWrittenAt(copies, keyOf(intent))
  return writtenAt !== undefined && stats.ctimeNs < writtenAt
}

/** The record as it may be told of this file: what was compared was another one, unless it is the very same. */
export function tellableOf (record: CopyRecord, found: Identity | undefined): CopyRecord {
  const isSame = found !== undefined && record.target !== undefined && isSameContent(record.target, found)
  if (record.phase !== 'done' || record.verified === undefined || isSame) return record
  const { verified: _, ...rest } = record
  return rest
}

/** Whether there is still the file of this identity under the name. */
export async function isStillThere (directory: Directory, name: string, identity: Identity): Promise<boolean> {
  const stats = await look(directory, name)
  return stats !== undefined && isSameContent(identity, identityOf(stats))
}
