import { createHash } from 'node:crypto'
import { uuidPattern } from '../../../api/names.ts'
import type { LeaseShape } from '../../../sanlock/client.ts'
import { linesOf, oneOf, parseKeyValues, refusalOf, required } from './key-values.ts'

const checksumKey = '_SHA_CKSUM'
const isUuid = new RegExp(uuidPattern)

/** What `dom_md/metadata` says of a domain. */
export interface DomainMetadata {
  /** The domain's id (SDUUID). */
  id: string
  /** How its leases lie on storage. */
  leaseShape: LeaseShape
}

/** The checksum of a domain's metadata: SHA-1 over its other lines, in their order, without line ends (persistentDict.py of vdsm). */
export function checksumOf (lines: readonly string[]): string {
  const hash = createHash('sha1')
  for (const line of lines) if (!line.startsWith(`${checksumKey}=`)) hash.update(line)
  return hash.digest('hex')
}

/** Reads `dom_md/metadata` and verifies its checksum. Throws `metadata-invalid` that names the file and the key. */
export function parseDomainMetadata (bytes: Uint8Array, file: string): DomainMetadata {
  const refuse = refusalOf(file)
  const values = parseKeyValues(bytes, refuse)
  const checksum = required(values, checksumKey, refuse)
  const computed = checksumOf(linesOf(bytes, refuse))
  if (checksum !== computed) throw refuse(`the key ${checksumKey} is ${JSON.stringify(checksum.slice(0, 80))}, but the checksum of its lines is ${computed}`)
  const version = required(values, 'VERSION', refuse)
  if (version !== '5') throw refuse(`the key VERSION is ${JSON.stringify(version.slice(0, 80))}; only storage format 5 is known`)
  const id = required(values, 'SDUUID', refuse)
  if (!isUuid.test(id)) throw refuse(`the key SDUUID is ${JSON.stringify(id.slice(0, 80))}, not a UUID`)
  return {
    id,
    leaseShape: {
      sectorBytes: Number(oneOf(['512', '4096'], 'BLOCK_SIZE', values.get('BLOCK_SIZE') ?? '512', refuse)),
      alignBytes: Number(oneOf(['1048576', '2097152', '4194304', '8388608'], 'ALIGNMENT', values.get('ALIGNMENT') ?? '1048576', refuse))
    }
  }
}
