import { look } from '../../system/directory.ts'
import type { Area } from '../area.ts'
import { isImageLeased } from '../image-lease.ts'
import { recordsOf } from '../layout/records.ts'
import type { CopiesNeedQuery } from '../protocol.ts'
import { total } from '../ranges.ts'
import type { CopyRecord } from '../record.ts'

/**
 * About how much space the copies that other hosts are running to a domain are still going to take up, by their records: so
 * that a copy is not begun beside them for which there is no room. What a record says of its own agent's copies is left
 * out: that agent knows better.
 */
export async function copiesNeed (area: Area, { hostId, keys }: CopiesNeedQuery): Promise<number> {
  const records = recordsOf(area)
  const listing = await records.list(area)
  let bytes = 0
  for (const key of listing.names) {
    if (keys.includes(key)) continue
    const phase = (await records.summary(area, key, listing))?.phase
    if (phase !== 'creating' && phase !== 'copying') continue
    const { record } = await records.read(area, key, listing)
    if (record === undefined || record.host.id === hostId || !await isImageLeased(area, record)) continue
    bytes += await needOf(area, record)
  }
  return Math.min(bytes, Number.MAX_SAFE_INTEGER)
}

/** What is left of the disk, with as much data in it as what was copied had; a copy that has just begun is as large as its source. */
export async function needOf ({ parts }: Pick<Area, 'parts'>, record: CopyRecord): Promise<number> {
  const { phase, allocation, virtualSize, done, bytesMoved, copyId, source } = record
  const taken = Number((await look(parts, copyId))?.blocks ?? 0n) * 512
  // what is preallocated is taken as soon as the copy is accepted
  if (allocation === 'preallocated') return phase === 'creating' ? Math.max(virtualSize - taken, 0) : 0
  const doneBytes = total(done)
  const left = virtualSize - doneBytes
  if (doneBytes > 0) return Math.round(left * Math.min(bytesMoved / doneBytes, 1))
  const sourceBytes = (source?.files ?? []).reduce((sum, { identity }) => sum + identity.size, 0)
  return Math.max(Math.min(left, sourceBytes) - taken, 0)
}
