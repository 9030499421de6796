import { AppError } from '../../errors.ts'
import type { Progress } from '../../api/task.ts'
import { compareCommand, parsePercentage } from '../../qemu/commands.ts'
import { look, hasCode, truncateFd } from '../../system/directory.ts'
import { linkFile, syncData } from '../../system/durable.ts'
import { run } from '../../system/run.ts'
import type { Area } from '../area.ts'
import { identityOf } from '../identity.ts'
import { writeRecord, type CopyRecord } from '../record.ts'
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
    // link, not rename: it can never replace an image that somebody has put there meanwhile
    await linkFile(area.parts, session.record.copyId, area.root, image)
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error
    await session.checkpoint(() => ({ phase: 'copying' }))
    throw new AppError('target-exists', `A file ${image} has appeared in domain ${area.id} during the copy. Rename it and mend the image: the copy itself is whole.`, { cause: error })
  }
  return await complete(area, session.record)
}

/** Marks a copy as done whose image has its name. */
export async function complete (area: Area, record: CopyRecord): Promise<CopyRecord> {
  await removePart(area, record.copyId)
  const stats = await look(area.root, record.image)
  if (stats === undefined) throw new AppError('storage-failed', `The image ${record.image} has vanished from domain ${area.id} at the end of its copy.`)
  const now = new Date().toISOString()
  const { bytesPerSecond: _, ...rest } = record
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
  const tell = (percent: number) => {
    report({ phase: 'verifying', bytesTotal: record.virtualSize, bytesDone: Math.floor(record.virtualSize * percent / 100) })
  }
  tell(0)
  const { exitCode, stderr } = await run(compareCommand([{ fd: 3, format: record.format }], sourceNodes(source, 4)), {
    fds: [part.fd, ...sourceFds(source)],
    signal,
    onStdout: text => {
      const percent = parsePercentage(text)
      if (percent !== undefined) tell(percent)
    }
  })
  if (exitCode === 0) return
  if (exitCode !== 1) throw new AppError('storage-failed', `The copy ${record.image} could not be compared with its source: ${stderr.trim().split('\n').at(-1) ?? ''}`)
  // nothing that was copied can be trusted now, neither as done nor as zero
  await session.checkpoint(() => ({ done: [], begun: [[0, record.virtualSize]], bytesMoved: 0 }))
  throw new AppError('verification-failed', `The copy ${record.image} differs from its source although the source did not change. It stays invisible; mendImage copies it anew, deleteImage removes it.`)
}
