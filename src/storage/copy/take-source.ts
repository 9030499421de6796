import { AppError } from '../../errors.ts'
import { hasErrno } from '../../system/errno.ts'
import { openArea, type Area, type DomainPlace } from '../area.ts'
import { sourceChain } from '../layout/source-chain.ts'
import { lookForImageLease, takeImageLease } from '../image-lease.ts'
import type { ImageAddress } from '../protocol.ts'
import { wordsOf, type Named } from '../record.ts'
import { openSource, openVolume, type Source } from './source.ts'

interface Places {
  places: readonly DomainPlace[]
  /** Only a look, which is to be in nobody's way: no lease is held. */
  isPreview?: boolean
}

/**
 * Opens the source and its backing files under shared leases, so that nobody deletes or overwrites any of them meanwhile.
 *
 * @param alone only its own file, to be copied as it is.
 * @param held its lease is this process's already.
 */
export async function takeSource (job: Places, address: ImageAddress, { alone = false, held = false }: { alone?: boolean, held?: boolean } = {}): Promise<Source> {
  const area = await openArea(placeOf(job, address.domain))
  const chain = await sourceChain(area, address)
  const { isPreview = false } = job
  if (!held) await share(area, chain.top, isPreview)
  const source = { ...alone ? await openVolume(area, chain) : await openSource(area, chain), isPreview }
  for (const backing of source.files.slice(1)) await share(area, backing, isPreview)
  // somebody may have had one of them between the look and the lease
  const changes = await source.changes()
  if (changes.length > 0) throw new AppError('resource-busy', `The source ${wordsOf(chain.top)} in domain ${area.id} is just being changed (${changes.join(', ')}).`)
  return source
}

/**
 * Takes the lease of what is going to be read. It stays open with the process, and so does the directory. On a read-only
 * file system, or a full one, an image that was never leased stays without: that a host which may write does so meanwhile,
 * the source's identity tells at the end.
 */
export async function share (area: Area, named: Named, isPreview = false): Promise<void> {
  const take = isPreview ? lookForImageLease : takeImageLease
  const isShared = await take(area, named, 'shared').then(lease => lease !== undefined, (error: unknown) => {
    if (hasErrno(error, 'EROFS', 'ENOSPC', 'EDQUOT')) return true
    throw error
  })
  if (!isShared) throw new AppError('resource-busy', `The source ${wordsOf(named)} in domain ${area.id} is being written or deleted.`)
}

/** Where the domain of this id is. */
export function placeOf ({ places }: Places, id: string): DomainPlace {
  const place = places.find(place => place.id === id)
  if (place === undefined) throw new AppError('domain-not-found', `This agent has no domain ${id}. GET /domains lists those it has.`)
  return place
}
