import { look } from '../../system/directory.ts'
import type { Area } from '../area.ts'
import { identityOf } from '../identity.ts'
import { readVolume, withImage } from '../layout/ovirt/volumes.ts'
import { patience } from '../patience.ts'
import type { NeededSource, SourceState } from '../protocol.ts'
import { keyOf, readRecord, sourceDifferences, type Named, type SourceFile } from '../record.ts'

/** The source that an unfinished copy still has to read, if it has one. A record that cannot be read is told elsewhere. */
export async function neededSource (area: Area, named: Named): Promise<NeededSource | null> {
  const record = await readRecord(area.copies, area.id, keyOf(named)).catch(() => undefined)
  return record?.phase === 'creating' || record?.phase === 'copying' ? record.source ?? null : null
}

/** What has become of the files of a source since a copy of it began, by the rules of `resume`: what is only touched is compared at the end. */
export async function sourceState (area: Area, files: readonly SourceFile[]): Promise<SourceState> {
  const changed: string[] = []
  for (const file of files) {
    const name = file.volume ?? file.image
    const now = await patience(area)(async () => await lookAt(area, file), found => found !== undefined)
    if (now === undefined) return { state: 'gone', what: name }
    const different = sourceDifferences(file, now).filter(what => what !== 'changed')
    changed.push(...different.map(what => `${what} of ${name}`))
  }
  return changed.length === 0 ? { state: 'same' } : { state: 'changed', what: changed.join(', ') }
}

async function lookAt (area: Area, { image, volume }: SourceFile): Promise<Pick<SourceFile, 'identity' | 'generation'> | undefined> {
  if (volume === undefined) {
    const stats = await look(area.root, image)
    return stats === undefined ? undefined : { identity: identityOf(stats) }
  }
  return await withImage(area, image, async directory => {
    if (directory === undefined) return undefined
    const { data, metadata } = await readVolume(area, image, directory, volume)
    return data === undefined ? undefined : { identity: identityOf(data), ...(metadata !== undefined && { generation: metadata.generation }) }
  })
}
