import type { Fix, ImageState, Volume } from '../../../api/image.ts'
import type { CopyRecord } from '../../record.ts'
import { identityOf, inodeOf } from '../../identity.ts'
import { fileStanding } from '../../standing.ts'
import { tellBytes } from '../../told.ts'
import { clean, forget } from '../copy-state.ts'
import { nextGeneration } from './volume-metadata.ts'
import type { VolumeFiles } from './volumes.ts'

/** Everything that a look at the storage finds about one volume. */
export interface FoundVolume {
  domain: string
  image: string
  volume: string
  /** What there is in the image's directory. */
  files: Omit<VolumeFiles, 'volume'>
  record: CopyRecord | undefined
  /** Why the record cannot be read, if it cannot. */
  recordProblem: string | undefined
  /** It cannot, because a newer agent wrote it. */
  isNewer?: boolean
  /** Of an interrupted deletion: it means the volume that is there. */
  isMeant?: boolean
  /** An unfinished write of a record is all that is there of it. */
  abandonedRecord: boolean
  /** Somebody holds the volume's lease. */
  leased: boolean
  /** The record of the chain that the volume's copy is part of. */
  head?: CopyRecord | undefined
  /** The records of the volumes below it, where its copy is that of a chain. */
  lower?: readonly CopyRecord[]
  /** It is to be finished or removed with the chain of another volume. */
  covered?: boolean
  /** Volumes that are based on it, in this image or, by hard link, in others. */
  children: readonly string[]
}

/**
 * What there is under the name of an unfinished copy: the volume as the copy would have left it at its end (`ended`), what it
 * left on its way (`open`), or something that is not its own (`foreign`), which it must not touch. `used` is what was `ended`,
 * and written to since.
 */
export function standingOf (record: CopyRecord, { data, metadata, problem }: FoundVolume['files']): 'ended' | 'used' | 'open' | 'foreign' {
  const { phase, generation, inode, given } = record
  const isOurData = data === undefined || (inode !== undefined && inodeOf(data) === inode)
  if (!isOurData || problem !== undefined) return 'foreign'
  // before there is metadata nothing is there to be found, or data alone that was just given its name
  if (metadata === undefined) return data === undefined || phase === 'creating' ? 'open' : 'foreign'
  if (metadata.legality === 'LEGAL' && data !== undefined) {
    if (phase === 'finishing' && generation !== undefined && metadata.generation === nextGeneration(generation)) {
      return ({ same: 'ended', written: 'used', other: 'foreign' } as const)[fileStanding(record, identityOf(data))]
    }
    return phase === 'creating' && given === true && metadata.generation === generation ? 'open' : 'foreign'
  }
  return metadata.legality === 'ILLEGAL' && metadata.generation === generation ? 'open' : 'foreign'
}

export type Verdict = Pick<Volume, 'state' | 'detail' | 'fixes'>

/** Judges a volume by what is on the storage, and nothing else. Undefined: there is nothing of this name. */
export function judgeVolume (found: FoundVolume): Verdict | undefined {
  const { record, leased } = found
  if (found.recordProblem !== undefined) return judgeUnreadable(found, found.recordProblem)
  if (record !== undefined && record.phase !== 'done') return judgeRecorded(found, record)
  const verdict = judgeFiles(found)
  if (verdict !== undefined || !found.abandonedRecord || leased) return verdict
  return illegal(`A copy or creation of volume ${found.volume} was interrupted before it was accepted.`, [clean(found, 'Removes what was left behind.')])
}

/** A record that cannot be read says nothing about a volume that is LEGAL. */
function judgeUnreadable (found: FoundVolume, detail: string): Verdict {
  const { leased, isNewer } = found
  const isGood = judgeFiles(found)?.state === 'ok'
  if (isNewer === true) return { state: isGood ? 'ok' : leased ? 'copying' : 'interrupted', detail, fixes: [] }
  if (isGood) return { state: 'ok', detail, fixes: leased ? [] : [forget(found, 'Forgets the unreadable record and leaves the volume as it is.')] }
  return illegal(detail, leased ? [] : [clean(found, 'Removes the volume together with its unreadable record.')])
}

function judgeRecorded (found: FoundVolume, record: CopyRecord): Verdict {
  const { volume, leased } = found
  if (record.phase === 'deleting') {
    if (leased) return illegal(`Volume ${volume} is being deleted.`)
    if (found.isMeant === false) {
      const rest = judgeFiles(found) ?? { state: 'ok', fixes: [] }
      return {
        ...rest,
        detail: `The deletion of a volume ${volume} was interrupted, and this is another one, or was written to since. ${rest.detail ?? ''}`.trim(),
        fixes: [forget(found, 'Forgets the interrupted deletion and leaves the volume as it is.')]
      }
    }
    return illegal(`The deletion of volume ${volume} was interrupted.`, [clean(found, 'Finishes the deletion.')])
  }
  if (leased) return { state: 'copying', fixes: [] }
  if (record.source === undefined) {
    if (!isOwnCreation(record, found)) return illegal(`A volume ${volume} that is not the unfinished creation of this name has appeared.`, [clean(found, 'Removes what was left of the creation and leaves the volume.')])
    return illegal(`The creation of volume ${volume} was interrupted.`, [createAgain(record), clean(found, 'Removes what was left behind.')])
  }
  const by = `The copy by task ${record.taskId ?? 'unknown'} on host ${record.host.id} was interrupted (last checkpoint ${record.checkpointAt})`
  // it goes with that; a template is an image of its own, and stays
  if (found.covered === true && found.head?.phase === 'deleting' && found.head.image === found.image) return illegal(`The deletion of the chain of volume ${found.head.volume}, which volume ${volume} belongs to, was interrupted.`)
  if (found.covered === true) return { state: 'interrupted', detail: `${by}, as part of the copy of the chain of volume ${record.partOf?.image}/${record.partOf?.volume}.`, fixes: [] }
  switch (standingOf(record, found.files)) {
    case 'foreign': return illegal(`${by}, and volume ${volume} is no longer as the copy left it: ${found.files.problem?.message ?? 'somebody has finished, replaced or rewritten it'}.`, [clean(found, 'Removes what is left of the copy and leaves the volume.')])
    case 'used': return { state: 'ok', detail: `${by} when the volume was complete, and it was written to since.`, fixes: [forget(found, 'Forgets the record and leaves the volume as it is.')] }
    case 'ended': return { state: 'interrupted', detail: `${by} when the volume was complete.`, fixes: [mend(record)] }
    case 'open': return { state: 'interrupted', detail: `${by}.`, fixes: [mend(record), clean(found, record.chain === undefined ? 'Removes the unfinished copy.' : 'Removes the unfinished copy with every volume that it has made in this image.')] }
  }
}

/** Whether what there is may be what an interrupted creation has left. */
export function isOwnCreation ({ inode }: CopyRecord, { files: { data, problem } }: Pick<FoundVolume, 'files'>): boolean {
  return problem === undefined && (data === undefined || (inode !== undefined && inodeOf(data) === inode))
}

function judgeFiles (found: FoundVolume): Verdict | undefined {
  const { volume, leased, children } = found
  const { data, metadata, problem, lease, abandoned } = found.files
  const removable = (description: string): Fix[] => leased || children.length > 0 ? [] : [clean(found, description)]
  // whoever repairs the file has the volume again: nothing is offered that would remove it
  if (problem !== undefined) return illegal(problem.message)
  if (metadata === undefined) {
    if (data !== undefined) return illegal(`Volume ${volume} is half-baked: it has data, but no metadata. Its creation was interrupted, or is under way at this moment.`, removable('Removes the half-baked volume.'))
    if (!lease && !abandoned) return undefined
    return illegal(`Of volume ${volume} there is neither data nor metadata, only what an interrupted deletion or creation has left.`, removable('Removes what was left behind.'))
  }
  if (data === undefined) return illegal(`Volume ${volume} has metadata, but no data: its deletion was interrupted.`, removable('Finishes the deletion.'))
  switch (metadata.legality) {
    case 'LEGAL': return { state: 'ok', fixes: [] }
    case 'FAKE': return illegal(`Volume ${volume} is FAKE: it only stands for a template that is in another domain.`)
    case 'ILLEGAL':
      return illegal(`Volume ${volume} is ILLEGAL, and no copy record tells why: an operation that is not this product's was interrupted, or is under way.${children.length > 0 ? ' Other volumes are based on it.' : ''}`, removable('Removes the volume. Make sure that nothing of the engine is working on it.'))
  }
}

function illegal (detail: string, fixes: Fix[] = []): Verdict {
  return { state: 'illegal' satisfies ImageState, detail, fixes }
}

function mend ({ domain, image, volume, bandwidth }: CopyRecord): Fix {
  return {
    action: 'mend',
    description: 'Continues the copy from what is durable of it.',
    task: { kind: 'storage.mendImage', domain, image, ...(volume !== undefined && { volume }), ...(bandwidth !== undefined && { bandwidth }) }
  }
}

function createAgain ({ domain, image, volume, format, virtualSize, allocation, clusterSize, description, diskType }: CopyRecord): Fix {
  return {
    action: 'mend',
    description: 'Finishes the creation.',
    task: {
      kind: 'storage.createImage',
      domain,
      image,
      ...(volume !== undefined && { volume }),
      format,
      virtualSize,
      allocation,
      ...(clusterSize !== undefined && { clusterSize }),
      ...(description !== undefined && { description }),
      ...(diskType !== undefined && { diskType })
    }
  }
}

/** What vdsm's Volume.getInfo tells of a volume. */
export function volumeInfo ({ volume, files: { data, metadata, lease } }: FoundVolume, children: readonly string[], leasePath: string): Volume['info'] {
  if (metadata === undefined) return undefined
  return {
    uuid: volume,
    domain: metadata.domain,
    image: metadata.image,
    pool: '',
    parent: metadata.parent ?? '00000000-0000-0000-0000-000000000000',
    children: [...children],
    format: metadata.format,
    type: metadata.type,
    voltype: metadata.volumeType,
    disktype: metadata.diskType,
    description: metadata.description,
    legality: metadata.legality,
    status: data === undefined ? 'INVALID' : metadata.legality === 'ILLEGAL' ? 'ILLEGAL' : 'OK',
    generation: metadata.generation,
    sequence: metadata.sequence,
    ctime: metadata.createdAt,
    mtime: 0,
    capacity: metadata.capacity,
    apparentsize: tellBytes(data?.size ?? 0n),
    truesize: Number(data?.blocks ?? 0n) * 512,
    ...(lease && { lease: { path: leasePath, offset: 0 } })
  }
}
