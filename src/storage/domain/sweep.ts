import { firstNames, look } from '../../system/directory.ts'
import { removeFile } from '../../system/durable.ts'
import type { Area } from '../area.ts'
import { recordsOf } from '../layout/records.ts'
import { withImage } from '../layout/ovirt/volumes.ts'
import { forgottenMs, isLeased, removeUnusedLease, takeLease } from '../lease.ts'
import type { SweepOptions, Swept } from '../protocol.ts'
import {
  hasCutOffWrite, keyOf, namedBy, readAnyRecord, recordedKeys, recordWrittenAt, removeRecord, statRecord, type CopyRecord
} from '../record.ts'
import { firstOf, inTurns } from '../turns.ts'

/** What is younger is left alone: its record may not be visible here yet. */
const sweepAgeMs = 10 * 60 * 1000
/** What is more than that is for the next time. */
const maxSwept = 1000
const dayMs = 24 * 60 * 60 * 1000

/** Removes what is of no use any more. */
export async function sweep (area: Area, { keepDoneDays }: SweepOptions): Promise<Swept> {
  return {
    parts: await sweepParts(area),
    records: await sweepRecords(area, keepDoneDays * dayMs),
    leases: await sweepLeases(area)
  }
}

/**
 * Removes the lease files of names that nothing has any more: no image, no volume, no record. Otherwise a domain would keep
 * one for every name that was ever used. Returns how many.
 */
async function sweepLeases (area: Area): Promise<number> {
  const isUnused = async (key: string) => await statRecord(area.copies, key) === undefined && !await hasCutOffWrite(area.copies, key) && !await isThere(area, key)
  const names = await firstNames(area.leases, Infinity, entry => entry.isFile() && !entry.name.startsWith('.'))
  const unused = await firstOf(names, maxSwept, async name => {
    const stats = await look(area.leases, name)
    return stats?.isFile() === true && ageOf(stats.mtimeNs) >= sweepAgeMs && await isUnused(name) ? [name] : []
  })
  const removed = await inTurns(unused, async name => await removeUnusedLease(area.leases, name, async () => await isUnused(name)).catch(() => undefined))
  const ends = removed.flatMap(end => end ?? [])
  setTimeout(() => { for (const end of ends) void end() }, forgottenMs).unref()
  return ends.length
}

/** Whether something has the name of a lease. */
async function isThere (area: Area, key: string): Promise<boolean> {
  if (area.layout === 'directory') return await look(area.root, key) !== undefined
  const { image, volume } = namedBy(key)
  return await withImage(area, image, async directory => directory !== undefined && (volume === undefined || await look(directory, volume) !== undefined))
}

/**
 * Removes parts that no record speaks of. There should be none: a record is always written before its part and removed
 * after it. But records can be removed by hand.
 */
async function sweepParts (area: Area): Promise<string[]> {
  const unused = async (parts: readonly string[]) => {
    const left: string[] = []
    for (const part of parts) {
      const stats = await look(area.parts, part)
      if (stats?.isFile() === true && ageOf(stats.mtimeNs) >= sweepAgeMs && !await isLeased(area.parts, part)) left.push(part)
    }
    return left.length === 0 ? [] : await unreferenced(area, left)
  }
  const swept: string[] = []
  const candidates = await unused(await firstNames(area.parts, maxSwept, entry => !entry.isDirectory()))
  for (const part of await unused(candidates)) if (await removeFile(area.parts, part)) swept.push(part)
  return swept
}

/** Those of the parts that no record speaks of. */
async function unreferenced (area: Area, parts: readonly string[]): Promise<string[]> {
  const left = new Set(parts)
  for (const key of await recordedKeys(area)) {
    const { record, problem } = await readAnyRecord(area.copies, area.id, key)
    // nobody knows what such a record speaks of
    if (problem !== undefined) return []
    if (record !== undefined) left.delete(record.copyId)
  }
  return [...left]
}

/**
 * Removes the records of copies that were complete long ago: they keep an answer to "did it finish?", which nobody asks
 * any more. Returns how many.
 */
async function sweepRecords (area: Area, keepMs: number): Promise<number> {
  const records = recordsOf(area)
  const listing = await records.list(area)
  const isOld = async (key: string) => {
    const writtenAt = await recordWrittenAt(area.copies, key)
    return writtenAt !== undefined && ageOf(writtenAt) >= keepMs
  }
  const old = await firstOf(listing.names, maxSwept, async key => {
    const summary = await records.summary(area, key, listing)
    return summary?.phase === 'done' && await isOld(key) ? [key] : []
  })
  let swept = 0
  for (const key of old) {
    const lease = await takeLease(area.leases, key, 'exclusive')
    try {
      // a new copy may have taken the name meanwhile
      const { record } = await readAnyRecord(area.copies, area.id, key)
      if (lease === undefined || record?.phase !== 'done' || !await isOld(key) || await isPartOfOpen(area, record)) continue
      if (await removeRecord(area.copies, key)) swept++
    } finally {
      await lease?.release()
    }
  }
  return swept
}

/** Whether a record belongs to the copy of a chain that is not complete. */
async function isPartOfOpen (area: Area, { partOf }: CopyRecord): Promise<boolean> {
  if (partOf === undefined) return false
  const { record, problem } = await readAnyRecord(area.copies, area.id, keyOf(partOf))
  return problem !== undefined || (record !== undefined && record.phase !== 'done')
}

const ageOf = (nanoseconds: bigint) => Date.now() - Number(nanoseconds / 1_000_000n)
