import { withArea, type DomainPlace } from '../../src/storage/area.ts'
import { layouts } from '../../src/storage/domain/layouts.ts'
import type { CopyJob, CreateRequest, DeleteRequest } from '../../src/storage/protocol.ts'

export type StorageChange = { what: 'create', place: DomainPlace, request: CreateRequest } | { what: 'delete', place: DomainPlace, request: DeleteRequest }
/** A piece of storage work, as the agent's processes do it. */
export type StorageJob = { what: 'copy', job: CopyJob } | { what: 'preview', job: CopyJob } | StorageChange

/** Makes or deletes an image. */
export async function change ({ what, place, request }: StorageChange): Promise<void> {
  await withArea(place, async area => {
    if (what === 'create') await layouts[area.layout].create(area, request)
    else await layouts[area.layout].delete(area, request, () => {})
  })
}
