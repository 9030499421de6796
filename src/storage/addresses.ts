import type { Layout } from '../api/domain.ts'
import type { Allocation, Format } from '../api/format.ts'
import type { CopyImage } from '../api/kinds.ts'
import { uuidPattern } from '../api/names.ts'
import { AppError } from '../errors.ts'
import { sourceFormat, targetFormat } from './names.ts'

interface Address {
  domain: string
  image: string
  volume?: string | undefined
}

interface Readable extends Address {
  format?: Format | undefined
}

interface Writable extends Readable {
  generation?: number | undefined
  allocation?: Allocation | undefined
  clusterSize?: number | undefined
  description?: string | undefined
  diskType?: string | undefined
}

const isUuid = new RegExp(uuidPattern)

/** Refuses what can be no image, or has no meaning, in a domain of this layout. */
export function checkAddress (layout: Layout, { domain, image, volume }: Address): void {
  if (layout === 'directory') {
    if (volume !== undefined) throw new AppError('bad-request', `The images of domain ${domain} have no volumes: its layout is directory. Leave out "volume".`)
    return
  }
  // what vdsm was removing is an image, too, as far as removing it goes
  if (!isUuid.test(image.replace(/^_remove_me_/, ''))) throw new AppError('bad-request', `The images of domain ${domain} are named by UUIDs: its layout is ovirt. ${image} is none.`)
}

/** The format to read an image in; absent where its metadata will tell. */
export function readableFormat (layout: Layout, address: Readable): Format | undefined {
  checkAddress(layout, address)
  return layout === 'directory' ? sourceFormat(address.image, address.format) : address.format
}

/** The format to write an image in; absent where it will be that of the source, or of the volume that is there. */
export function writableFormat (layout: Layout, address: Writable): Format | undefined {
  checkAddress(layout, address)
  const { domain, image, volume, format, allocation, clusterSize } = address
  if (layout === 'ovirt') {
    if (volume === undefined) throw new AppError('bad-request', `Domain ${domain} has the layout ovirt: say which "volume" of image ${image} is to be written.`)
    if (format === 'qcow2' && allocation === 'preallocated') throw new AppError('not-supported', 'vdsm knows no preallocated qcow2 volumes on file domains. Choose raw, or leave out "allocation".')
    if (format === 'raw') refuseClusterSize(image, clusterSize)
    return format
  }
  for (const key of ['generation', 'description', 'diskType'] as const) {
    if (address[key] !== undefined) throw new AppError('bad-request', `The images of domain ${domain} have no ${key}: its layout is directory. Leave out "${key}".`)
  }
  const written = targetFormat(image, format)
  if (written === 'raw') refuseClusterSize(image, clusterSize)
  return written
}

/** Refuses what has no meaning where every volume of a chain is copied as it is. */
export function checkChain ({ source, target }: CopyImage, from: Layout, to: Layout): void {
  for (const [layout, { domain }] of [[from, source], [to, target]] as const) {
    if (layout !== 'ovirt') throw new AppError('not-supported', `The images of domain ${domain} have no chain of volumes to keep: its layout is ${layout}. Leave out "chain".`)
  }
  checkAddress(to, target)
  if (source.domain === target.domain) throw new AppError('not-supported', `A chain keeps the names of its volumes, and domain ${source.domain} has them already. Choose another domain, or leave out "chain".`)
  for (const key of ['allocation', 'clusterSize'] as const) {
    if (target[key] !== undefined) throw new AppError('bad-request', `A chain is kept as it is: every volume has its own ${key}. Leave out the target's "${key}", or "chain".`)
  }
  if (source.volume !== undefined && target.volume !== undefined && source.volume !== target.volume) throw new AppError('bad-request', `A chain keeps the names of its volumes: its top is ${source.volume}, not ${target.volume}. Leave out the target's "volume".`)
}

function refuseClusterSize (image: string, clusterSize: number | undefined): void {
  if (clusterSize !== undefined) throw new AppError('bad-request', `${image} is to be raw, and raw images have no clusters. Leave out "clusterSize", or choose qcow2.`)
}
