import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Area } from '../area.ts'

/** How a file system is mounted, as /proc/self/mountinfo tells it. */
export interface Mount {
  /** Where it is mounted. */
  at: string
  type: string
  /** Those of the file system itself: for NFS, who keeps the locks. */
  options: readonly string[]
}

/**
 * What about the mount makes leases less than they should be. Nothing is refused for it: with one host, all is well.
 * What cannot be found out is not warned of.
 */
export async function mountWarnings ({ root, local, id }: Area): Promise<string[]> {
  if (local) return []
  const [descriptor, mounts] = await Promise.all([readFile(`/proc/self/fdinfo/${root.fd}`, 'utf8'), readFile('/proc/self/mountinfo', 'utf8')])
  const mount = findMount(mounts, /^mnt_id:\s*(\d+)$/m.exec(descriptor)?.[1])
  if (mount === undefined) return []
  const { at, type } = mount
  if (/^nfs4?$/.test(type)) return nfsWarnings(id, mount)
  if (type !== 'fuse.glusterfs') return []
  // The client shows the options that it was mounted with in a directory of its own, which takes no other host. One that
  // is set while it is mounted takes effect, but does not show (GlusterFS 10): hence the advice to mount again.
  const volfile = await readFile(join(at, '.meta/graphs/active/volfile'), 'utf8').catch(() => undefined)
  return volfile === undefined ? [] : glusterWarnings(id, volfile)
}

/** The mount of this number. See proc_pid_mountinfo(5) for the format. */
export function findMount (mountinfo: string, number: string | undefined): Mount | undefined {
  for (const line of mountinfo.split('\n')) {
    const fields = line.split(' ')
    if (number === undefined || fields[0] !== number) continue
    // any number of optional fields stands before the dash
    const [type = '', , options = ''] = fields.slice(fields.indexOf('-') + 1)
    return { at: unescape(fields[4] ?? ''), type, options: options.split(',') }
  }
  return undefined
}

/** Whether the locks of an NFS mount are only this host's own: then two hosts can have the same lease. */
export function nfsWarnings (id: string, { at, options }: Pick<Mount, 'at' | 'options'>): string[] {
  const local = options.find(option => option === 'nolock' || (option.startsWith('local_lock=') && option !== 'local_lock=none'))
  if (local === undefined) return []
  return [`Domain ${id}: ${at} is mounted with ${local}, so that leases do not hold across hosts: two of them can write the same image. Mount it without, unless this is the only host that uses it.`]
}

/** Whether the Gluster client lets a host that was cut off write on through files whose locks it has lost. */
export function glusterWarnings (id: string, volfile: string): string[] {
  const clients = [...volfile.matchAll(/^volume (\S+)\n(.*?)^end-volume/gms)].filter(([, , body = '']) => /^\s*type protocol\/client$/m.test(body))
  if (clients.length === 0 || clients.every(([, , body = '']) => /^\s*option strict-locks (on|yes|true|enable|1)$/m.test(body))) return []
  const volume = /^\s*option volfile-key \/?(\S+)$/m.exec(volfile)?.[1] ?? 'VOLUME'
  return [`Domain ${id}: the Gluster volume was mounted without client.strict-locks. A host that was cut off from it and comes back may then write into an image that another one has taken over. Run "gluster volume set ${volume} client.strict-locks on" and mount it again.`]
}

/** Spaces and the like stand there as octal numbers. */
function unescape (field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8)))
}
