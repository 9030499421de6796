import { Type } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'

/** A part of a disk: data, or known to read as zeros without looking. */
export interface Extent {
  start: number
  length: number
  zero: boolean
  data: boolean
  /** Some file of the chain says something of it. */
  present: boolean
  /** Which file of the chain has it, 0 for the top. */
  depth: number
  /** Where in that file it lies; absent for what is compressed or not stored. */
  offset?: number
}

const validator = TypeCompiler.Compile(Type.Array(Type.Object({
  start: Type.Integer({ minimum: 0 }),
  length: Type.Integer({ minimum: 0 }),
  zero: Type.Boolean(),
  data: Type.Boolean(),
  present: Type.Boolean(),
  depth: Type.Integer({ minimum: 0 }),
  offset: Type.Optional(Type.Integer({ minimum: 0 }))
})))

/** Parses what `qemu-img map --output=json` prints. Throws if it is anything else. */
export function parseMap (text: string): Extent[] {
  const value: unknown = JSON.parse(text)
  if (!validator.Check(value)) throw new Error(`qemu-img map printed something else than extents: ${text.slice(0, 200)}`)
  return value
}

/**
 * Parses the output of `qemu-img map --output=json` while it is being printed, one extent a line. A reader that has
 * enough can end the program and keep what it has: a fragmented disk has millions of extents.
 */
export class ExtentReader {
  readonly extents: Extent[] = []
  #rest = ''

  /** Takes the next piece of output. Throws if it is anything else than extents. */
  push (text: string): void {
    const lines = (this.#rest + text).split('\n')
    this.#rest = lines.pop() ?? ''
    for (const line of lines) {
      // the first line opens the list, all but the last end with a comma
      const object = line.replace(/^\[/, '').replace(/[,\]]$/, '')
      if (object !== '') this.extents.push(...parseMap(`[${object}]`))
    }
  }
}
