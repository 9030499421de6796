import type { Static } from '@sinclair/typebox'
import { Words } from './schema.ts'

export const Format = Words(['raw', 'qcow2'], {
  description: 'The image format. It follows from the extension of the name (`.qcow2`; `.raw`, `.img`, `.iso` are raw) or is given; it is never guessed from the content.'
})
export type Format = Static<typeof Format>

export const Allocation = Words(['sparse', 'preallocated'], {
  description: '`sparse` takes up space as data is written; `preallocated` reserves all of it at the start.'
})
export type Allocation = Static<typeof Allocation>
