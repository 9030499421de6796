import { AppError } from '../../errors.ts'
import type { Progress } from '../../api/task.ts'
import { look, hasCode, truncateFd } from '../../system/directory.ts'
import { linkFile, replaceByMove, syncData } from '../../system/durable.ts'
import type { Area } from '../area.ts'
import { identityOf, isSameContent } from '../identity.ts'
import { assertUnused } from '../in-use.ts'
import { writeRecord, type CopyRecord } from '../record.ts'
import { compare } from './compare.ts'
import { removePart } from './part.ts'
import type { Session } from './session.ts'
import { sourceChanges, sourceFds, sourceNodes } from './source.ts'

/**
 * The end of a copy: everything durable, the source unchanged, compared if that was asked for, and only then the
 * image gets its name. After a crash between any two steps the record tells what is left to do.
 */
export async function finish (session: Session, report: (progress: Progress) => void): Promise<CopyRecord> {
  const { area, part, signal } = session
  const { image, virtualSize, format } = session.record
  // a host that was cut off must not cut what its successor has finished, and a guest may have made larger
  await session.assertOwnership()
  if (format === 'raw') await truncateFd(part.fd, virtualSize)
  await syncData(part.fd)
  await assertUnchanged(session)
  const verified = session.record.verify
  if (verified) {
    await verify(session, report)
    // what was compared must be what is recorded
    await assertUnchanged(session)
  }
  signal.throwIfAborted()
  await session.checkpoint(() => ({ phase: 'finishing', ...(verified && { verified: true }) }))
  try {
    await giveName(area, session.record)
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error
    await session.checkpoint(() => ({ phase: 'copying' }))
    throw new AppError('target-exists', `A file ${image} that this copy may not replace has appeared in domain ${area.id}, or was written, during the copy. Rename it and mend the image: the copy itself is whole.`, { cause: error })
  }
  return await complete(area, session.record)
}

/**
 * Gives the part the image's name: by link, which can never replace an image that somebody has put there meanwhile, or,
 * to replace the very image that was there when the copy began, by rename.
 */
async function giveName (area: Area, { copyId, image, replaces }: CopyRecord): Promise<void> {
  const existing = await look(area.root, image)
  if (existing === undefined || replaces === undefined || !isSameContent(replaces, identityOf(existing))) {
    await linkFile(area.parts, copyId, area.root, image)
    return
  }
  await assertUnused(area, image, 'It was not replaced; the copy is whole: mend the image when it is closed.')
  await replaceByMove(area.parts, copyId, area.root, image)
}

/** Marks a copy as done whose image has its name. */
export async function complete (area: Area, record: CopyRecord): Promise<CopyRecord> {
  await removePart(area, record.copyId)
  const stats = await look(area.root, record.image)
  if (stats === undefined) throw new AppError('storage-failed', `The image ${record.image} has vanished from domain ${area.id} at the end of its copy.`)
  const now = new Date().toISOString()
  const { bytesPerSecond: _, replaces: __, ...rest } = record
  const done: CopyRecord = {
    ...rest, phase: 'done', done: [], begun: [], target: identityOf(stats), checkpointAt: now, completedAt: now
  }
  await writeRecord(area.copies, done)
  return done
}

async function assertUnchanged ({ record, source }: Session): Promise<void> {
  const changes = await sourceChanges(source, record.source?.files ?? [])
  if (changes.length > 0) {
    throw new AppError('source-changed', `The source of ${record.image} was changed during the copy (${changes.join(', ')}): the copy is of no use. Delete it and copy again.`, { members: { differs: changes } })
  }
}

async function verify (session: Session, report: (progress: Progress) => void): Promise<void> {
  const { source, part, record, signal } = session
  const { identical } = await compare([{ fd: 3, format: record.format }], sourceNodes(source, 4), [part.fd, ...sourceFds(source)], {
    signal, bytesTotal: record.virtualSize, report
  })
  if (identical) return
  // nothing that was copied can be trusted now, neither as done nor as zero
  await session.checkpoint(() => ({ done: [], begun: [[0, record.virtualSize]], bytesMoved: 0 }))
  throw new AppError('verification-failed', `The copy ${record.image} differs from its source although the source did not change. It stays invisible; mendImage copies it anew, deleteImage removes it.`)
}
