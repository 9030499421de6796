import { createHash } from 'node:crypto'
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { makeOld, sh } from './images.ts'

// Builds oVirt file domains of format V5 byte for byte, and reads what is written there, from the description of the
// format alone: nothing here is shared with the agent, or both could be wrong together.

export const noParent = '00000000-0000-0000-0000-000000000000'

/** A UUID that is easy to read in messages. */
export const uuid = (name: string) => createHash('sha256').update(name).digest('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12}).*$/, '$1-$2-$3-$4-$5')

/** The lines of a domain's metadata with their checksum. */
export function domainMetadata (id: string, more: Record<string, string> = {}): string {
  const values: Record<string, string> = {
    ALIGNMENT: '1048576',
    BLOCK_SIZE: '512',
    CLASS: 'Data',
    DESCRIPTION: 'größe',
    IOOPTIMEOUTSEC: '10',
    LEASERETRIES: '3',
    LEASETIMESEC: '60',
    LOCKPOLICY: '',
    LOCKRENEWALINTERVALSEC: '5',
    POOL_UUID: '',
    REMOTE_PATH: 'localhost:/export',
    ROLE: 'Regular',
    SDUUID: id,
    TYPE: 'POSIXFS',
    VERSION: '5',
    ...more
  }
  const lines = Object.entries(values).map(([key, value]) => `${key}=${value}`).sort()
  return [...lines, `_SHA_CKSUM=${createHash('sha1').update(lines.join('')).digest('hex')}`].map(line => `${line}\n`).join('')
}

/** Makes an empty domain as vdsm leaves it. Returns its path. */
export async function makeOvirtDomain (root: string, id: string): Promise<string> {
  const path = join(root, id)
  await mkdir(join(path, 'dom_md'), { recursive: true })
  await mkdir(join(path, 'images'))
  for (const name of ['ids', 'inbox', 'leases', 'outbox', 'xleases']) await writeFile(join(path, 'dom_md', name), '')
  await writeFile(join(path, 'dom_md', 'metadata'), domainMetadata(id))
  return path
}

export type MetaValues = Record<string, string | number>

/** The text of a `.meta` file. */
export function metaText (values: MetaValues): string {
  return Object.keys(values).sort().map(key => `${key}=${values[key]}\n`).join('') + 'EOF\n'
}

export const metaValues = (domain: string, image: string, more: MetaValues = {}): MetaValues => ({
  CAP: 1048576,
  CTIME: 1700000000,
  DESCRIPTION: '{"DiskAlias":"größe","DiskDescription":""}',
  DISKTYPE: 'DATA',
  DOMAIN: domain,
  FORMAT: 'RAW',
  GEN: 7,
  IMAGE: image,
  LEGALITY: 'LEGAL',
  PUUID: noParent,
  SEQ: 1,
  TYPE: 'SPARSE',
  VOLTYPE: 'LEAF',
  ...more
})

/** Puts a volume into a domain: data by `fill`, then metadata and lease. Returns the path of the data. */
export async function putVolume (domainPath: string, domain: string, image: string, volume: string, fill: (path: string) => Promise<void>, more: MetaValues = {}): Promise<string> {
  const directory = join(domainPath, 'images', image)
  await mkdir(directory, { recursive: true })
  const path = join(directory, volume)
  await fill(path)
  await makeOld(path)
  await writeFile(`${path}.meta`, metaText(metaValues(domain, image, more)))
  await writeFile(`${path}.lease`, '')
  return path
}

/** Makes a qcow2 volume whose backing file is the bare name of its parent, with some data of its own. */
export async function fillQcow2 (path: string, size: number, parent: { volume: string, format: 'raw' | 'qcow2' } | undefined, writes: Array<[offset: number, length: number, pattern: number]>): Promise<void> {
  const directory = join(path, '..')
  const backing = parent === undefined ? [] : ['-b', join(directory, parent.volume), '-F', parent.format]
  await sh('qemu-img', 'create', '-q', '-f', 'qcow2', ...backing, path, String(size))
  if (parent !== undefined) await sh('qemu-img', 'rebase', '-u', '-f', 'qcow2', '-F', parent.format, '-b', parent.volume, path)
  for (const [offset, length, pattern] of writes) await sh('qemu-io', '-f', 'qcow2', '-c', `write -P ${pattern} ${offset} ${length}`, path)
}

/** Reads a `.meta` file as the format says it must be, to the byte; throws for whatever is not so. */
export async function readMeta (path: string): Promise<Record<string, string>> {
  const bytes = await readFile(path)
  if (bytes.length > 512) throw new Error(`${path}: ${bytes.length} bytes`)
  const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  if (!text.endsWith('\nEOF\n')) throw new Error(`${path} does not end with EOF: ${text}`)
  const lines = text.split('\n').slice(0, -2)
  const keys = lines.map(line => {
    const match = /^([A-Z]+)=(.*)$/.exec(line)
    if (match?.[1] === undefined) throw new Error(`${path}: ${line}`)
    return match[1]
  })
  const known = ['CAP', 'CTIME', 'DESCRIPTION', 'DISKTYPE', 'DOMAIN', 'FORMAT', 'GEN', 'IMAGE', 'LEGALITY', 'PUUID', 'SEQ', 'TYPE', 'VOLTYPE']
  if (keys.join() !== known.join()) throw new Error(`${path} has the keys ${keys.join()}`)
  return Object.fromEntries(lines.map(line => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]))
}

/** Owner and mode of a path, as `uid:gid mode`. */
export async function accessOf (path: string): Promise<string> {
  const { uid, gid, mode } = await stat(path)
  return `${uid}:${gid} ${(mode & 0o7777).toString(8)}`
}
