import type { Fix, ImageState } from '../../api/image.ts'
import type { CopyRecord } from '../record.ts'

/** What a look at the storage finds about one image. */
export interface Found {
  domain: string
  image: string
  /** The inode of the file that has the image's name, if there is one. */
  inode: string | undefined
  record: CopyRecord | undefined
  /** Somebody holds the image's lease. Only looked at where a record is open. */
  leased: boolean
  /** Why the record cannot be read, if it cannot. */
  recordProblem: string | undefined
  /** The file that has the name is the one that the open copy is to replace, as it was when the copy began. */
  replaceable?: boolean
  /** An unfinished write of a record is all that is there of it. */
  abandonedWrite: boolean
}

export interface Verdict {
  state: ImageState
  detail?: string
  fixes: Fix[]
}

/** Judges an image by what is on the storage, and nothing else. Undefined: there is nothing of this name. */
export function judge (found: Found): Verdict | undefined {
  const { record, inode, leased, image } = found
  if (found.recordProblem !== undefined) return { state: 'illegal', detail: found.recordProblem, fixes: leased ? [] : [clean(found, 'Removes the image together with its unreadable record.')] }
  if (record === undefined || (record.phase === 'done' && inode === undefined)) {
    if (inode !== undefined) return { state: 'ok', fixes: [] }
    if (!found.abandonedWrite || leased) return undefined
    return { state: 'illegal', detail: `A copy or creation of ${image} was interrupted before it was accepted.`, fixes: [clean(found, 'Removes what was left behind.')] }
  }
  if (record.phase === 'done') return { state: 'ok', fixes: [] }
  if (record.phase === 'deleting') {
    if (leased) return { state: 'illegal', detail: `${image} is being deleted.`, fixes: [] }
    return { state: 'illegal', detail: `The deletion of ${image} was interrupted.`, fixes: [clean(found, 'Finishes the deletion.')] }
  }
  if (found.replaceable === true) return judgeReplacement(found, record)
  if (leased) return { state: 'copying', fixes: [] }
  const isOurs = inode !== undefined && record.phase === 'finishing' && inode === record.inode
  if (inode !== undefined && !isOurs) {
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
    fixes: [mend(record), clean(found, 'Removes the unfinished copy.')]
  }
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

function clean ({ domain, image }: Found, description: string): Fix {
  return { action: 'clean', description, task: { kind: 'storage.deleteImage', domain, image } }
}
