import { setTimeout as sleep } from 'node:timers/promises'
import { AppError } from '../../errors.ts'
import { look, statFd } from '../../system/directory.ts'
import type { Area } from '../area.ts'
import { identityOf } from '../identity.ts'
import { sourceChanges, recordedFiles, type Source } from './source.ts'

/** A source whose last write is younger than this may be written again without its time of modification changing. */
const youngMs = 2000

/**
 * Waits until the source is old enough for its time of modification to tell of every further write, and takes its
 * identity again. Only for a source of which nothing has been copied, so that a change is no harm.
 *
 * @param key whose record was just written: its time is the storage's own now.
 * @returns `old`: it was old enough from the start, and what was read of it since it was opened holds. `same`: its identity is as it was,
 * which does not tell what it held before the wait. `changed`: it has another identity now.
 */
export async function outlastYouth (area: Area, key: string, source: Source, signal?: AbortSignal): Promise<'old' | 'same' | 'changed'> {
  const written = await look(area.copies, `${key}.json`)
  if (written === undefined) return 'same'
  const ages = await Promise.all(source.files.map(async ({ fd }) => Number((written.mtimeNs - (await statFd(fd)).mtimeNs) / 1_000_000n)))
  const youngest = Math.min(...ages)
  if (youngest >= youngMs) return 'old'
  // another storage's clock may be ahead or behind: then the wait is for the whole time
  await sleep(youngest < 0 ? youngMs : youngMs - youngest, undefined, { signal }).catch(() => { signal?.throwIfAborted() })
  const { changed, touched } = await sourceChanges(source, recordedFiles(source))
  if (changed.length + touched.length === 0) return 'same'
  for (const file of source.files) file.identity = identityOf(await statFd(file.fd))
  if (source.files[0].format === 'raw' && source.files[0].identity.size !== source.virtualSize) {
    throw new AppError('source-changed', `The source of ${key} changes its size at this moment. Copy it when its writer is done.`)
  }
  return 'changed'
}
