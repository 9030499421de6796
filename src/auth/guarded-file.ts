import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs'

/**
 * Reads a file that decides who gets in. Throws when every user of the host could write it, or, of one that is secret, read
 * it: then it keeps nobody out. Its group is the administrator's choice.
 */
export function readGuarded (file: string, { secret = false } = {}): Buffer {
  // the open file is looked at, not its name, which may be another one's a moment later; a pipe must not stop the agent
  const fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    const stats = fstatSync(fd)
    if (!stats.isFile()) throw new Error(`${file} is not a regular file`)
    if ((stats.mode & 0o002) !== 0) throw new Error(`every user of this host may write ${file}. chmod o-w ${file}`)
    if (secret && (stats.mode & 0o004) !== 0) throw new Error(`every user of this host may read ${file}, and it is a secret. chmod o-r ${file}`)
    return readFileSync(fd)
  } finally {
    closeSync(fd)
  }
}
