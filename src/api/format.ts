import { Kind, Type, type Static } from '@sinclair/typebox'
import { Words } from './schema.ts'

export const Format = Words(['raw', 'qcow2'], {
  description: 'The image format. It follows from the extension of the name (`.qcow2`; `.raw`, `.img`, `.iso` are raw) or is given; it is never guessed from the content.'
})
export type Format = Static<typeof Format>

const clusterSizes = Array.from({ length: 13 }, (_, power) => 512 * 2 ** power)

/** The sizes that the format allows (docs/interop/qcow2.txt of QEMU): powers of two from 512 bytes to 2 MiB. */
export const ClusterSize = Type.Unsafe<number>({
  [Kind]: 'Words',
  type: 'integer',
  enum: clusterSizes,
  description: 'Bytes in a cluster of a qcow2 image, 64 KiB unless given. Larger ones need less metadata, smaller ones less space for scattered writes.'
})

export const Allocation = Words(['sparse', 'preallocated'], {
  description: '`sparse` takes up space as data is written; `preallocated` reserves all of it at the start.'
})
export type Allocation = Static<typeof Allocation>
