import { createHash } from 'node:crypto'
import { canonicalize } from 'json-canonicalize'

/** SHA-256, in hex, over the RFC 8785 form of a JSON value: two bodies that say the same have the same digest. */
export function digest (value: unknown): string {
  return createHash('sha256').update(canonicalize(value)).digest('hex')
}
