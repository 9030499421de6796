import { AppError } from '../../errors.ts'
import { hasCode, look } from '../../system/directory.ts'
import { openArea, type Area, type DomainPlace } from '../area.ts'
import { isLeased, takeLease } from '../lease.ts'
import { readRecord } from '../record.ts'
import type { ImageAddress } from '../protocol.ts'
import { openSource, type Source } from './source.ts'

interface Places { places: readonly DomainPlace[] }

/** Opens the source and its backing files under shared leases, so that nobody deletes or overwrites any of them meanwhile. */
export async function takeSource (job: Places, { domain, image, format }: ImageAddress): Promise<Source> {
  const place = placeOf(job, domain)
  const area = await openArea(place)
  const record = await readRecord(area.copies, area.id, image)
  const isWhole = await look(area.root, image) !== undefined
  if (!isWhole && record !== undefined && record.phase !== 'done') {
    throw new AppError('image-interrupted', `Image ${image} in domain ${domain} is itself an unfinished copy${await isLeased(area.leases, image) ? ' that is still running' : '; mend it first'}.`)
  }
  await share(area, image)
  const source = await openSource(area, place, image, format)
  for (const { image: backing } of source.files.slice(1)) await share(area, backing)
  return source
}

/**
 * The lease stays open with the process, and so does the directory. On a read-only file system an image that was never
 * leased stays without: that a host which may write does so meanwhile, the source's identity tells at the end.
 */
async function share ({ id, leases }: Area, image: string): Promise<void> {
  const isShared = await takeLease(leases, image, 'shared').then(lease => lease !== undefined, (error: unknown) => {
    if (hasCode(error, 'EROFS')) return true
    throw error
  })
  if (!isShared) throw new AppError('resource-busy', `The source ${image} in domain ${id} is being written or deleted.`)
}

/** Where the domain of this id is. */
export function placeOf ({ places }: Places, id: string): DomainPlace {
  const place = places.find(place => place.id === id)
  if (place === undefined) throw new AppError('domain-not-found', `This agent has no domain ${id}. GET /domains lists those it has.`)
  return place
}
