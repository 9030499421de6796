import type { AppError } from '../../errors.ts'
import type { Directory } from '../../system/directory.ts'
import type { Area } from '../area.ts'
import type { Part } from '../copy/part.ts'
import type { Source } from '../copy/source.ts'
import type { Identity } from '../identity.ts'
import type { CopyRequest } from '../protocol.ts'
import type { CopyRecord, Layer } from '../record.ts'
import { DirectoryTarget } from './directory/copy-target.ts'
import { OvirtTarget } from './ovirt/copy-target.ts'

type TargetRequest = CopyRequest['target']

/** What has the name of a copy that is to begin. */
export interface Existing {
  /** Absent where there is no whole image. */
  identity?: Identity
  /** It may be replaced by a complete copy, if the caller wants that. */
  replaceable: boolean
  /** It is empty, and made to be written into. */
  offered: boolean
  refusal: AppError
}

/** What the layout has to say about a record that is to be made. */
export type TargetPlan = Pick<CopyRecord, 'format' | 'allocation' | 'virtualSize'> & Partial<Pick<CopyRecord, 'generation' | 'given' | 'inode' | 'description' | 'diskType' | 'layer' | 'begun'>>

/** How a layout keeps what a copy is written to, from the accept step to the end. All is done under the target's lease. */
export interface CopyTarget {
  /** What has the name. Throws if that is no image; what the request says of it is compared first. */
  find (request: TargetRequest): Promise<Existing | undefined>
  /**
   * Refuses to replace an image that `find` has found `replaceable`, if there still is one, and that others need, or whose
   * owner and attributes another file cannot have.
   */
  assertReplaceable? (options: { isPreview: boolean }): Promise<void>
  /** What a copy of this source is going to be. Throws if it cannot be had. */
  plan (source: Source, request: TargetRequest): TargetPlan
  /**
   * What there is under the name of an unfinished copy: its end, but for the record, or something to go on with. Throws
   * `target-exists` for what is not the copy's.
   */
  standing (record: CopyRecord): Promise<'ended' | 'open'>
  /** Where the copy's data is, from `copying` on. */
  fileOf (record: CopyRecord): Promise<{ directory: Directory, name: string }>
  /**
   * What somebody else has done to the file that a copy is being written to, in words: nobody but the holder of the lease
   * may touch it.
   */
  disturbance (record: CopyRecord, part: Part): Promise<string | undefined>
  /** Puts a part where the layout wants it while it is being written, durably. Without a part, takes the volume that is there. */
  place (record: CopyRecord, part?: Part): Promise<void>
  /** Takes back everything: the copy could not be begun, and nothing was copied. */
  retract (record: CopyRecord): Promise<void>
  /** Removes the copy's data, which is of no use: it is going to be made anew. */
  discard (record: CopyRecord): Promise<void>
  /** Looks whether the complete copy is what the layout needs it to be. Throws `image-invalid`. */
  assertWhole? (record: CopyRecord, fd: number): Promise<void>
  /** Lets everybody see the complete copy, whose file is open. Returns why not, if somebody has taken its place meanwhile. */
  giveName (record: CopyRecord, fd: number): Promise<string | undefined>
  /** What is complete, and whatever else is only of use until then gone. Undefined if it has vanished, or another file took its place. */
  settle (record: CopyRecord): Promise<Identity | undefined>
}

/** Where a copy to this image or volume is written. @param layer what the volume is to be in its chain, if that is kept. */
export function copyTarget (area: Area, { image, volume }: { image: string, volume?: string | undefined }, layer?: Layer): CopyTarget {
  return area.layout === 'ovirt' ? new OvirtTarget(area, image, volume, layer) : new DirectoryTarget(area, image)
}
