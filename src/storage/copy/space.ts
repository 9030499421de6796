import { statfs } from 'node:fs/promises'
import { AppError } from '../../errors.ts'
import { entry, statFd } from '../../system/directory.ts'
import type { Area } from '../area.ts'
import { explain } from '../failure.ts'
import type { CopyRecord } from '../record.ts'
import type { Part } from './part.ts'
import type { Source } from './source.ts'

/** About as much space as a whole copy takes: all of it if it is reserved, else as much as its source takes. */
export function spaceFor ({ allocation, virtualSize }: Pick<CopyRecord, 'allocation' | 'virtualSize'>, source: Pick<Source, 'dataBytes'>): number {
  return allocation === 'preallocated' ? virtualSize : Math.min(virtualSize, source.dataBytes)
}

/** The space that a domain has left for us. */
export async function freeSpace (area: Area): Promise<number> {
  const { bavail, bsize } = await statfs(entry(area.root, '.'))
  return bavail * bsize
}

/** Adds to an error of a running copy that is about space how much there is, and about how much is still needed. */
export async function withSpace (error: unknown, { area, part, record, source }: { area: Area, part: Part, record: CopyRecord, source: Source }): Promise<unknown> {
  const known = explain(error, `Copying ${record.image}`)
  if (known.code !== 'no-space') return error
  const taken = Number((await statFd(part.fd)).blocks) * 512
  const members = { bytesFree: await freeSpace(area), bytesNeeded: Math.max(spaceFor(record, source) - taken, 0) }
  return new AppError('no-space', `${known.message} ${members.bytesFree} bytes are free, about ${members.bytesNeeded} more are needed.`, { members, changed: known.changed, cause: error })
}
