import { readFile, readlink } from 'node:fs/promises'
import { posix } from 'node:path'
import { mountPaths } from '../../../system/mount-paths.ts'
import type { Area } from '../../area.ts'

/**
 * All paths under which this host has the directory of a domain: as it was configured, without the links in that, and those
 * of other mounts of the same file system. Other hosts may have it elsewhere: their paths are not known here.
 */
export async function pathsOf ({ path, root }: Pick<Area, 'path' | 'root'>): Promise<ReadonlySet<string>> {
  const [real, descriptor, mounts] = await Promise.all([
    readlink(`/proc/self/fd/${root.fd}`), readFile(`/proc/self/fdinfo/${root.fd}`, 'utf8'), readFile('/proc/self/mountinfo', 'utf8')
  ])
  const mountId = /^mnt_id:\s*(\d+)$/m.exec(descriptor)?.[1]
  return new Set([posix.normalize(path).replace(/(.)\/$/, '$1'), real, ...mountPaths(mounts, mountId, real)])
}

/**
 * The name of the file in the domain that an image there means by a path; undefined if it leads out of the domain's
 * directory. Only by the letters of the path: a look at what it leads to could hang, on other storage.
 */
export function nameInDomain (paths: ReadonlySet<string>, path: string): string | undefined {
  for (const base of paths) {
    const full = posix.resolve(base, path)
    if (paths.has(posix.dirname(full))) return posix.basename(full)
  }
  return undefined
}
