import { realpath } from 'node:fs/promises'
import { basename, dirname, resolve } from 'node:path'
import { UsageError } from './exit.ts'
import type { Session } from './session.ts'

export interface ImageAddress {
  domain: string
  image: string
  /** Of the image, in a domain of the layout `ovirt`. */
  volume?: string
}

/**
 * Finds the image that `domain/image`, `domain/image/volume` or the path of a file means, by the domains that the agent has. The same words may
 * mean both: then the domain goes first, and `./` in front makes it a path.
 */
export async function findImage ({ client, directory }: Session, text: string): Promise<ImageAddress> {
  const domains = await client.domains()
  const [, prefix = '', image = '', volume] = /^([^/]+)\/([^/]+)(?:\/([^/]+))?$/.exec(text) ?? []
  const named = domains.find(({ domain }) => domain === prefix)
  // of other domains, it can only be a path
  if (named !== undefined && (volume === undefined || named.layout === 'ovirt')) return { domain: prefix, image, ...(volume !== undefined && { volume }) }
  const path = resolve(directory, text)
  const folder = dirname(path)
  const inside = domains.find(domain => domain.path === folder) ?? await findReal(domains, folder)
  if (inside !== undefined) return { domain: inside.domain, image: basename(path) }
  const known = domains.map(({ domain, path }) => `${domain} (${path})`).join(', ')
  throw new UsageError(`"${text}" is neither DOMAIN/IMAGE nor a file in a domain of the agent. Its domains: ${known || 'none'}.`)
}

/** What two paths lead to decides when they are written differently: through a symbolic link, for example. */
async function findReal<T extends { path: string }> (domains: readonly T[], folder: string): Promise<T | undefined> {
  // one that is not here leads nowhere: the agent may be on another host
  const real = async (path: string) => await realpath(path).catch(() => undefined)
  const wanted = await real(folder)
  for (const domain of domains) {
    if (wanted !== undefined && await real(domain.path) === wanted) return domain
  }
  return undefined
}

/** As `findImage` reads it. */
export function nameOf ({ domain, image, volume }: { domain: string, image: string, volume?: string | undefined }): string {
  return volume === undefined ? `${domain}/${image}` : `${domain}/${image}/${volume}`
}

/** For a line that is to be pasted into a shell. */
export function quoted (text: string): string {
  return /^[A-Za-z0-9._~:@=+,/-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
}
