import { Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'

const Info = Type.Object({
  'virtual-size': Type.Integer({ minimum: 0 }),
  'backing-filename-format': Type.Optional(Type.String())
})

/** What `qemu-img info --output=json` says about one file; undefined if it is something else. */
export function parseInfo (text: string): { virtualSize: number, backingFormat: string | undefined } | undefined {
  try {
    const value: unknown = JSON.parse(text)
    if (!Value.Check(Info, value)) return undefined
    return { virtualSize: value['virtual-size'], backingFormat: value['backing-filename-format'] }
  } catch {
    // not JSON at all
    return undefined
  }
}
