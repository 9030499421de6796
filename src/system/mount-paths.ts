import { posix } from 'node:path'

interface Mount {
  id: string
  device: string
  /** What of the file system is mounted. */
  root: string
  /** Where. */
  at: string
}

/**
 * All paths that lead to a directory, through any mount of its file system. See proc_pid_mountinfo(5).
 *
 * @param mountinfo the text of /proc/self/mountinfo.
 * @param mountId the mount that the directory was opened through.
 * @param path where the directory is in it.
 */
export function mountPaths (mountinfo: string, mountId: string | undefined, path: string): string[] {
  const mounts = mountinfo.split('\n').flatMap(parseMount)
  const own = mounts.find(({ id }) => id === mountId)
  const inOwn = own === undefined ? undefined : below(own.at, path)
  if (own === undefined || inOwn === undefined) return []
  const inFileSystem = posix.join(own.root, inOwn)
  return mounts.flatMap(({ device, root, at }) => {
    const rest = device === own.device ? below(root, inFileSystem) : undefined
    return rest === undefined ? [] : [posix.join(at, rest).replace(/(.)\/$/, '$1')]
  })
}

function parseMount (line: string): Mount[] {
  const [id, , device, root, at] = line.split(' ')
  return id === undefined || device === undefined || root === undefined || at === undefined ? [] : [{ id, device, root: unescape(root), at: unescape(at) }]
}

/** What of a path is below a directory. */
function below (directory: string, path: string): string | undefined {
  if (path === directory) return ''
  const prefix = directory.endsWith('/') ? directory : `${directory}/`
  return path.startsWith(prefix) ? path.slice(prefix.length) : undefined
}

/** Spaces and the like stand there as octal numbers. */
function unescape (field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8)))
}
