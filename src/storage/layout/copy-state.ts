import type { Copy, Fix } from '../../api/image.ts'
import { AppError } from '../../errors.ts'
import type { CopiesQuery } from '../protocol.ts'
import { wordsOf, type CopyRecord, type Named } from '../record.ts'

/** The state of a copy record, in the words of the list of copies. */
export function copyState (record: CopyRecord, verdict: { fixes: readonly Fix[] } | undefined, leased: boolean): Copy['state'] {
  if (record.phase === 'done') return 'done'
  if (record.phase === 'deleting') return 'illegal'
  if (leased) return 'copying'
  if (verdict?.fixes.some(({ task }) => task.kind === 'storage.forgetCopy') === true) return 'done'
  return verdict?.fixes.some(({ action }) => action === 'mend') === true ? 'interrupted' : 'illegal'
}

/** What is asked for of a list of copies. */
type Wanted = Pick<CopiesQuery, 'taskId' | 'state'>

/** Whether a record can be one that is asked for, as far as that can be told without a look at anything else. */
export function mayBe ({ phase, taskId }: { phase: CopyRecord['phase'] | undefined, taskId: string | undefined }, wanted: Wanted): boolean {
  if (wanted.taskId !== undefined && taskId !== wanted.taskId) return false
  return wanted.state === undefined || wanted.state === 'done' || phase !== 'done'
}

/** Whether a copy is one that is asked for. */
export function isAskedFor ({ state, copy: { taskId } }: Copy, wanted: Wanted): boolean {
  return (wanted.state === undefined || state === wanted.state) && (wanted.taskId === undefined || taskId === wanted.taskId)
}

/** What is offered, and for what: the record that was there, if it could be read. */
type Broken = Named & { domain: string, record?: CopyRecord | undefined }

/** A way out of a record that is of no use to a good image. It touches nothing but the record. */
export function forget (broken: Broken, description: string): Fix {
  return { action: 'mend', description, task: { kind: 'storage.forgetCopy', ...namedIn(broken), ...offeredFor(broken) } }
}

/** Removes what is left of an image. */
export function clean (broken: Broken, description: string): Fix {
  return { action: 'clean', description, task: { kind: 'storage.deleteImage', ...namedIn(broken), ...offeredFor(broken) } }
}

const namedIn = ({ domain, image, volume }: Broken) => ({ domain, image, ...(volume !== undefined && { volume }) })

/** An offer may be taken up long after it was made, when something else has the name. */
function offeredFor ({ record }: Broken): { copyId: string } | { withoutCopy: true } {
  return record === undefined || record.phase === 'done' ? { withoutCopy: true } : { copyId: record.copyId }
}

/** What to say of a copy that is complete but for its record, and was written to before that could be made good. */
export function writtenSince ({ id }: { id: string }, record: Named): AppError {
  return new AppError('target-exists', `${wordsOf(record)} in domain ${id} is a complete copy that was written to since. Forget its record (forgetCopy) to go on using it; delete it to copy again.`)
}
