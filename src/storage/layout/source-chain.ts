import type { Allocation, Format } from '../../api/format.ts'
import type { Directory } from '../../system/directory.ts'
import type { Area } from '../area.ts'
import type { ImageAddress } from '../protocol.ts'
import type { Layer } from '../record.ts'
import { directoryChain } from './directory/source-chain.ts'
import { ovirtChain } from './ovirt/source-chain.ts'

/** A file of an image, by its name: not opened yet. */
export interface ChainFile {
  image: string
  volume?: string
  format: Format
  /** Nothing declares that format: it is what the extension of the name stands for. */
  undeclared?: true
  /** GEN of the volume. */
  generation?: number
  directory: Directory
  name: string
}

/** What the header of a file says of the one below it. */
export interface Backing {
  name: string
  /** The format that the header declares; any word, where somebody else has written it. */
  format: string | undefined
}

/** A volume of a chain, as its metadata tell: what a copy of it by itself has to say. */
export interface ChainVolume {
  /** The image that it is a volume of: another one than that which is read, if it is the template of that. */
  image: string
  volume: string
  allocation: Allocation
  layer: Layer
  /** When its data was last written, in nanoseconds since 1970. */
  modified: bigint
}

/** An image that is to be read, and the files below it, as its layout knows them. */
export interface SourceChain {
  readonly top: ChainFile
  /** What the layout says of the image that a copy of it should say, too. */
  readonly description?: string
  readonly diskType?: string
  /** The volumes of the chain, top first; absent where images have none. Throws for a chain that cannot be kept. */
  volumes? (): readonly [ChainVolume, ...ChainVolume[]]
  /** The file below one that was opened; undefined at the base. Throws `image-invalid` for what must not be read. */
  below (file: ChainFile, backing: Backing | undefined): ChainFile | undefined
  /** What the layout says otherwise by now than when the chain was looked up. */
  changes (): Promise<string[]>
}

/** Looks up an image that is to be read. Throws the refusal of one that is not whole. */
export async function sourceChain (area: Area, address: ImageAddress): Promise<SourceChain> {
  return area.layout === 'ovirt' ? await ovirtChain(area, address) : await directoryChain(area, address)
}
