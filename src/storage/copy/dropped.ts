import type { Dropped } from '../../api/kinds.ts'
import { AppError } from '../../errors.ts'
import type { Extras } from '../../qemu/extras.ts'
import { escapeUnprintable } from '../../unprintable.ts'
import type { CopyRequest } from '../protocol.ts'

/** A hostile image has 65,535 names of 64 KiB, and every subscriber would be sent them all. */
const maxNames = 1000
const maxNameLength = 255

/** What a copy of these files drops; undefined if that is nothing. Layers of a chain have bitmaps of the same names: each name is listed once. */
export function droppedOf (files: readonly Extras[]): Dropped | undefined {
  const snapshots = new Set(files.flatMap(file => file.snapshots))
  const bitmaps = new Set(files.flatMap(file => file.bitmaps))
  if (snapshots.size + bitmaps.size === 0) return undefined
  const more = Math.max(0, snapshots.size - maxNames) + Math.max(0, bitmaps.size - maxNames)
  return { snapshots: listed(snapshots), bitmaps: listed(bitmaps), ...(more > 0 && { more }) }
}

/** The names come from an image that anybody may have made. */
function listed (names: ReadonlySet<string>): string[] {
  return [...names].slice(0, maxNames).map(name => {
    const shown = escapeUnprintable(name)
    return shown.length > maxNameLength ? `${shown.slice(0, maxNameLength - 1)}…` : shown
  })
}

/** Refuses a copy that would have less than its source, if the caller wants that. */
export function assertNothingLost ({ refuseLoss = false, source: { image } }: CopyRequest, { dropped }: { dropped?: Dropped | undefined }): void {
  if (!refuseLoss || dropped === undefined) return
  const { snapshots, bitmaps } = dropped
  const what = [
    ...snapshots.length > 0 ? [`the internal snapshots ${snapshots.slice(0, 10).join(', ')}${snapshots.length > 10 ? ' and others' : ''}`] : [],
    ...bitmaps.length > 0 ? [`the bitmaps ${bitmaps.slice(0, 10).join(', ')}${bitmaps.length > 10 ? ' and others' : ''}`] : []
  ]
  throw new AppError('would-lose-data', `A copy of ${image} would not have ${what.join(', nor ')}. Leave out "refuseLoss" to copy it without them.`, { members: { snapshots, bitmaps } })
}
