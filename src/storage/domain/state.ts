import type { Fix, ImageState } from '../../api/image.ts'
import type { Identity } from '../identity.ts'
import { clean, forget } from '../layout/copy-state.ts'
import type { CopyRecord } from '../record.ts'
import { fileStanding } from '../standing.ts'

/** What a look at the storage finds about one image. */
export interface Found {
  domain: string
  image: string
  /** Of the file that has the image's name, if there is one. */
  identity: Identity | undefined
  record: CopyRecord | undefined
  /** Somebody holds the image's lease. Only looked at where a record is open. */
  leased: boolean
  /** Why the record cannot be read, if it cannot. */
  recordProblem: string | undefined
  /** It cannot, because a newer agent wrote it. */
  isNewer?: boolean
  /** Of an interrupted deletion: it means the file that is there. */
  isMeant?: boolean
  /** The file that has the name is the one that the open copy is to replace, as it was when the copy began. */
  replaceable?: boolean
  /** What has the name is no regular file. */
  isOther?: boolean
  /** An unfinished write of a record is all that is there of it. */
  abandonedWrite: boolean
}

/** What to say of a name that is no image. */
export function otherWords ({ image, domain }: Pick<Found, 'image' | 'domain'>): string {
  return `${image} in domain ${domain} is not a regular file: links, directories and devices are no images.`
}

export interface Verdict {
  state: ImageState
  detail?: string
  fixes: Fix[]
}

/** Judges an image by what is on the storage, and nothing else. Undefined: there is nothing of this name. */
export function judge (found: Found): Verdict | undefined {
  const { record, identity, leased, image } = found
  if (found.isOther === true) return { state: 'illegal', detail: otherWords(found), fixes: [] }
  if (found.recordProblem !== undefined) return judgeUnreadable(found, found.recordProblem)
  if (record === undefined || (record.phase === 'done' && identity === undefined)) {
    if (identity !== undefined) return { state: 'ok', fixes: [] }
    if (!found.abandonedWrite || leased) return undefined
    return { state: 'illegal', detail: `A copy or creation of ${image} was interrupted before it was accepted.`, fixes: [clean(found, 'Removes what was left behind.')] }
  }
  if (record.phase === 'done') return { state: 'ok', fixes: [] }
  if (record.phase === 'deleting') {
    if (leased) return { state: 'illegal', detail: `${image} is being deleted.`, fixes: [] }
    if (identity !== undefined && found.isMeant === false) {
      return {
        state: 'ok',
        detail: `The deletion of a file ${image} was interrupted, and this is another one, or was written to since.`,
        fixes: [forget(found, 'Forgets the interrupted deletion and leaves the image as it is.')]
      }
    }
    return { state: 'illegal', detail: `The deletion of ${image} was interrupted.`, fixes: [clean(found, 'Finishes the deletion.')] }
  }
  if (found.replaceable === true) return judgeReplacement(found, record)
  if (leased) return { state: 'copying', fixes: [] }
  const standing = identity === undefined ? undefined : fileStanding(record, identity)
  if (standing === 'written') {
    return {
      state: 'ok',
      detail: `${image} was complete when its ${record.source === undefined ? 'creation' : 'copy'} was interrupted, and was written to since.`,
      fixes: [forget(found, 'Forgets the record and leaves the image as it is.')]
    }
  }
  if (standing === 'other') {
    return {
      state: 'illegal',
      detail: `A file ${image} that is not the unfinished copy of this name has appeared. Rename it to be able to mend the copy.`,
      fixes: [clean(found, 'Removes the unfinished copy and leaves the file.')]
    }
  }
  if (record.source === undefined) {
    return { state: 'illegal', detail: `The creation of ${image} was interrupted.`, fixes: [createAgain(record), clean(found, 'Removes what was left behind.')] }
  }
  return {
    state: 'interrupted',
    detail: `The copy by task ${record.taskId ?? 'unknown'} on host ${record.host.id} was interrupted (last checkpoint ${record.checkpointAt}).`,
    // a copy that has its name is whole: nothing is offered that would remove it
    fixes: standing === 'same' ? [mend(record)] : [mend(record), clean(found, 'Removes the unfinished copy.')]
  }
}

/** A record that cannot be read says nothing about a file that has the image's name: a copy gets it when it is whole. */
function judgeUnreadable (found: Found, detail: string): Verdict {
  const { identity, leased, isNewer } = found
  if (isNewer === true) return { state: identity !== undefined ? 'ok' : leased ? 'copying' : 'interrupted', detail, fixes: [] }
  if (identity !== undefined) return { state: 'ok', detail, fixes: leased ? [] : [forget(found, 'Forgets the unreadable record and leaves the image as it is.')] }
  return { state: 'illegal', detail, fixes: leased ? [] : [clean(found, 'Removes what is left of the image, together with its unreadable record.')] }
}

/** An image that is being replaced is as good as ever until its successor is complete. */
function judgeReplacement (found: Found, record: CopyRecord): Verdict {
  if (found.leased) return { state: 'ok', detail: `It is about to be replaced by a copy on host ${record.host.id}.`, fixes: [] }
  return {
    state: 'ok',
    detail: `A copy by task ${record.taskId ?? 'unknown'} that was to replace it was interrupted.`,
    fixes: [mend(record), clean(found, 'Removes the unfinished copy and leaves the image.')]
  }
}

function mend ({ domain, image, bandwidth }: CopyRecord): Fix {
  return {
    action: 'mend',
    description: 'Continues the copy from what is durable of it.',
    task: { kind: 'storage.mendImage', domain, image, ...(bandwidth !== undefined && { bandwidth }) }
  }
}

function createAgain ({ domain, image, format, virtualSize, allocation, clusterSize }: CopyRecord): Fix {
  return {
    action: 'mend',
    description: 'Finishes the creation.',
    task: { kind: 'storage.createImage', domain, image, format, virtualSize, allocation, ...(clusterSize !== undefined && { clusterSize }) }
  }
}
