import type { CopyProgress } from '../api/image.ts'
import { total } from './ranges.ts'
import type { CopyRecord } from './record.ts'

/** Who writes the record. What a newer agent says of itself besides is kept in the record, and is not for callers. */
export function hostOf ({ host: { id, url } }: CopyRecord): CopyProgress['host'] {
  return { id, ...(url !== undefined && { url }) }
}

/** The record as callers see it. @param lower the records of the volumes below it, if it is the copy of a chain. */
export function progressOf (record: CopyRecord, lower: readonly CopyRecord[] = []): CopyProgress {
  const { copyId, source, taskId, createdAt, completedAt, canceledAt, verified, epoch, chain } = record
  const [image] = source?.files ?? []
  const parts = [...lower, record]
  const latest = parts.toSorted((a, b) => a.checkpointAt < b.checkpointAt ? 1 : -1)[0] ?? record
  const { bytesPerSecond } = record.phase === 'done' ? record : latest
  // each of them is a number that can be told, and of honest records so is the sum
  const bytesTotal = Math.min(Number.MAX_SAFE_INTEGER, (chain?.volumes ?? []).reduce((sum, { bytes }) => sum + bytes, record.virtualSize))
  return {
    copyId,
    phase: record.phase === 'creating' && lower.length > 0 ? 'copying' : record.phase,
    ...(source !== undefined && image !== undefined && { source: { domain: source.domain, image: image.image, ...(image.volume !== undefined && { volume: image.volume }) } }),
    host: hostOf(record),
    ...(taskId !== undefined && { taskId }),
    bytesTotal,
    bytesDone: record.phase === 'done' ? bytesTotal : Math.min(bytesTotal, parts.reduce((sum, part) => sum + (part.phase === 'done' ? part.virtualSize : total(part.done)), 0)),
    ...(bytesPerSecond !== undefined && { bytesPerSecond }),
    createdAt,
    checkpointAt: latest.checkpointAt,
    ...(completedAt !== undefined && { completedAt }),
    ...(canceledAt !== undefined && { canceledAt }),
    ...(verified !== undefined && { verified }),
    epoch
  }
}
