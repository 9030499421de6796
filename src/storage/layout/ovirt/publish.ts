import { AppError } from '../../../errors.ts'
import { look, type Directory } from '../../../system/directory.ts'
import { linkFile, removeDirectory, removeFile } from '../../../system/durable.ts'
import type { Area } from '../../area.ts'
import { inodeOf } from '../../identity.ts'
import type { CopyRecord } from '../../record.ts'
import type { VolumeMetadata } from './volume-metadata.ts'
import { makeLease, removeLeasePart, removeVolume, writeMetadata } from './volumes.ts'

/** The directory entry of a record's volume. */
interface Named extends Pick<CopyRecord, 'copyId' | 'inode'> {
  volume: string
}

/**
 * Gives a part the name of a volume, then the volume its metadata, then its lease: vdsm's order. What a run before this
 * one has done of it is left as it is.
 */
export async function publish (area: Area, directory: Directory, { copyId, inode, volume }: Named, metadata: VolumeMetadata): Promise<void> {
  const data = await look(directory, volume)
  if (data === undefined) await linkFile(area.parts, copyId, directory, volume)
  else if (inodeOf(data) !== inode) throw new AppError('target-exists', `A volume ${volume} has appeared in image ${metadata.image} of domain ${area.id}.`)
  if (await look(directory, `${volume}.meta`) === undefined) await writeMetadata(area, directory, volume, metadata)
  await makeLease(area, directory, volume)
  // until now it was the proof that the data is ours
  await removeFile(area.parts, copyId)
}

/** Takes back what was made of a volume, and the directory of its image if nothing else is in it. Leaves what is not ours. */
export async function withdraw (area: Area, image: string, directory: Directory | undefined, { copyId, inode, volume }: Named): Promise<void> {
  if (directory !== undefined) {
    const data = await look(directory, volume)
    if (inode !== undefined && (data === undefined || inodeOf(data) === inode)) await removeVolume(directory, volume)
    await removeDirectory(area.images, image)
  }
  await removeLeasePart(area, volume)
  await removeFile(area.parts, copyId)
}
