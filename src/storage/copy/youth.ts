import { setTimeout as sleep } from 'node:timers/promises'
import { AppError } from '../../errors.ts'
import { look, statFd } from '../../system/directory.ts'
import type { Area } from '../area.ts'
import { identityOf } from '../identity.ts'
import { sourceChanges, recordedFiles, syncSource, type Source } from './source.ts'

/** A source whose last write is younger than this may be written again without its time of modification changing. */
const youngMs = 2000
/** A source that was written during each of so many waits has a writer that is not about to end. */
const maxWaits = 3

/**
 * Waits until every further write to the source will change its time of modification, and takes its identity again. Only
 * for a source of which nothing has been copied, so that a change is no harm.
 *
 * A write may leave that time as it is for two reasons: the last one was too short ago, or a process stores through mmap
 * into pages that are dirty already. Hence each look begins by making them clean, and counts only if the source is still
 * as it was before that: what was stored in between has made pages dirty again. Throws `source-changed` when the source
 * never stands still.
 *
 * @param key whose record was just written: its time is the storage's own now.
 * @returns `old`: it was old enough from the start, and what was read of it since it was opened and synced holds. `same`:
 * its identity is as it was, which does not tell what it held before the wait. `changed`: it has another identity now.
 */
export async function outlastYouth (area: Area, key: string, source: Source, signal?: AbortSignal): Promise<'old' | 'same' | 'changed'> {
  const startedAt = performance.now()
  const written = await look(area.copies, `${key}.json`)
  let result: 'old' | 'same' | 'changed' = 'old'
  for (let waits = 0; ; waits++) {
    await syncSource(source)
    // what is only touched is compared at the end
    const { changed } = await sourceChanges(source, recordedFiles(source))
    const isStill = changed.length === 0
    if (!isStill) {
      result = 'changed'
      await identifyAgain(key, source)
    }
    const ageMs = written === undefined ? 0 : await youngestMs(source, Number(written.mtimeMs) + performance.now() - startedAt)
    if (isStill && (waits > 0 || ageMs >= youngMs)) return result
    if (waits === maxWaits) throw new AppError('source-changed', `The source of ${key} is being written at this moment (${changed.join(', ')}). Copy it when its writer is done.`, { members: { differs: changed } })
    if (result === 'old') result = 'same'
    // another storage's clock may be ahead or behind: then the wait is for the whole time
    await sleep(ageMs < 0 || ageMs >= youngMs ? youngMs : youngMs - ageMs, undefined, { signal }).catch(() => { signal?.throwIfAborted() })
  }
}

/** How long ago any of its files was last written, in milliseconds. */
async function youngestMs ({ files }: Source, nowMs: number): Promise<number> {
  return Math.min(...await Promise.all(files.map(async ({ fd }) => nowMs - Number((await statFd(fd)).mtimeMs))))
}

async function identifyAgain (key: string, source: Source): Promise<void> {
  for (const file of source.files) file.identity = identityOf(await statFd(file.fd))
  if (source.files[0].format === 'raw' && source.files[0].identity.size !== source.virtualSize) {
    throw new AppError('source-changed', `The source of ${key} changes its size at this moment. Copy it when its writer is done.`)
  }
}
