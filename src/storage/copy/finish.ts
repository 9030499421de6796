import { AppError } from '../../errors.ts'
import type { Progress } from '../../api/task.ts'
import { statFd, truncateFd } from '../../system/directory.ts'
import { syncData } from '../../system/durable.ts'
import type { Area } from '../area.ts'
import { identityOf, isSameContent } from '../identity.ts'
import type { CopyTarget } from '../layout/copy-target.ts'
import { wordsOf, writeRecord, type CopyRecord } from '../record.ts'
import { compareDisks, diskOf, soleDisk } from './compare-disks.ts'
import { assertCopiedHeader, assertHeaders } from './headers.ts'
import type { Session } from './session.ts'
import { sourceChanges } from './source.ts'

/**
 * The end of a copy: everything durable, the source unchanged, compared if that was asked for, and only then the
 * image gets its name. After a crash between any two steps the record tells what is left to do.
 */
export async function finish (session: Session, report: (progress: Progress) => void): Promise<CopyRecord> {
  const { area, target, part, signal } = session
  const { virtualSize, format } = session.record
  // a host that was cut off must not cut what its successor has finished, and a guest may have made larger
  await session.assertOwnership()
  if (format === 'raw') {
    await truncateFd(part.fd, virtualSize)
    part.length.least = BigInt(virtualSize)
  }
  await syncData(part.fd)
  const touched = await assertUnchanged(session)
  const verified = session.record.verify || touched.length > 0
  if (verified) await prove(session, touched, report)
  await assertHeaders(session)
  await assertCopiedHeader(session)
  await target.assertWhole?.(session.record, part.fd)
  signal.throwIfAborted()
  // from here on, this tells the copy from any other file
  const identity = identityOf(await statFd(part.fd))
  await session.checkpoint(() => ({ phase: 'finishing', target: identity, ...(verified && { verified: true }) }))
  await session.assertOwnership()
  const refusal = await target.giveName(session.record, part.fd)
  if (refusal !== undefined) {
    await session.checkpoint(() => ({ phase: 'copying' }))
    throw new AppError('target-exists', refusal)
  }
  return await complete(area, target, session.record)
}

/** Marks a copy as done whose image has its name. */
export async function complete (area: Area, target: CopyTarget, record: CopyRecord): Promise<CopyRecord> {
  const found = await target.settle(record)
  if (found === undefined) throw new AppError('storage-failed', `The image ${wordsOf(record)} has vanished from domain ${area.id} at the end of its copy, or another file has taken its place.`)
  const now = new Date().toISOString()
  const { bytesPerSecond: _, replaces: __, ...noted } = record
  const { target: ended, verified: ___, ...unproved } = noted
  // who writes to it from now on has another image: the record is of what was copied
  const proved = ended === undefined ? unproved : { ...noted, target: isSameContent(ended, found) ? found : ended }
  const done: CopyRecord = {
    ...proved, phase: 'done', done: [], begun: [], checkpointAt: now, completedAt: now
  }
  await writeRecord(area.copies, done)
  return done
}

/** Throws `source-changed`. Returns in words what may be a change: only a comparison can tell. */
async function assertUnchanged ({ record, source }: Session): Promise<string[]> {
  const { changed, touched } = await sourceChanges(source, record.source?.files ?? [])
  if (changed.length > 0) {
    throw new AppError('source-changed', `The source of ${record.image} was changed during the copy (${changed.join(', ')}): the copy is of no use. Delete it and copy again.`, { members: { differs: changed } })
  }
  return touched
}

/** Compares the copy with its source, until the source has stood still for the time of a comparison. */
async function prove (session: Session, touched: readonly string[], report: (progress: Progress) => void): Promise<void> {
  const { source } = session
  for (;;) {
    const before = await Promise.all(source.files.map(async ({ fd }) => await statFd(fd)))
    await verify(session, touched, report)
    // what was compared must be what is recorded
    await assertUnchanged(session)
    const after = await Promise.all(source.files.map(async ({ fd }) => await statFd(fd)))
    // a template that images are made from all the time never stands still: what has another number of links was linked
    if (before.every(({ ctimeNs, nlink }, index) => after[index]?.ctimeNs === ctimeNs || after[index]?.nlink !== nlink)) return
  }
}

async function verify (session: Session, touched: readonly string[], report: (progress: Progress) => void): Promise<void> {
  const { source, part, record, signal } = session
  await assertHeaders(session)
  const { virtualSize, format } = record
  const { identical } = await compareDisks(soleDisk({ fd: part.fd, format }, virtualSize), diskOf(source), {
    signal, owner: session.area.owner, bytesTotal: virtualSize, report
  })
  if (identical) return
  // nothing that was copied can be trusted now, neither as done nor as zero
  await session.checkpoint(() => ({ done: [], begun: [[0, record.virtualSize]], bytesMoved: 0 }))
  if (touched.length > 0) throw new AppError('source-changed', `The source of ${record.image} was changed during the copy (${touched.join(', ')}), and the copy differs from it. It is not to be used; mendImage copies it anew, deleteImage removes it.`, { members: { differs: touched } })
  throw new AppError('verification-failed', `The copy ${record.image} differs from its source although the source did not change. It stays invisible; mendImage copies it anew, deleteImage removes it.`)
}
