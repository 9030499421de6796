import { hash } from 'node:crypto'
import { canonicalize } from 'json-canonicalize'

/** SHA-256, in hex, over the RFC 8785 form of a JSON value: two bodies that say the same have the same digest. */
export function digest (value: unknown): string {
  return hash('sha256', canonicalize(value))
}
