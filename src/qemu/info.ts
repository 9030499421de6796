import { Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'

const Info = Type.Object({
  'virtual-size': Type.Integer({ minimum: 0 }),
  'backing-filename-format': Type.Optional(Type.String()),
  snapshots: Type.Optional(Type.Array(Type.Object({ id: Type.String(), name: Type.String() }))),
  'format-specific': Type.Optional(Type.Object({
    data: Type.Optional(Type.Object({ bitmaps: Type.Optional(Type.Array(Type.Object({ name: Type.String() }))) }))
  }))
})

/** One file of an image, as qemu-img sees it. */
export interface ImageInfo {
  virtualSize: number
  backingFormat: string | undefined
  /** Names of the internal snapshots; the id of one that has none. */
  snapshots: string[]
  /** Names of the persistent dirty bitmaps. */
  bitmaps: string[]
}

/** What `qemu-img info --output=json` says about one file; undefined if it is something else. */
export function parseInfo (text: string): ImageInfo | undefined {
  try {
    const value: unknown = JSON.parse(text)
    if (!Value.Check(Info, value)) return undefined
    return {
      virtualSize: value['virtual-size'],
      backingFormat: value['backing-filename-format'],
      snapshots: (value.snapshots ?? []).map(({ id, name }) => name === '' ? id : name),
      bitmaps: (value['format-specific']?.data?.bitmaps ?? []).map(({ name }) => name)
    }
  } catch {
    // not JSON at all
    return undefined
  }
}
