import { AppError } from '../errors.ts'
import { hasErrno } from './errno.ts'
import { chmodFd, chownFd, statFd } from './directory.ts'
import { CommandError, run } from './run.ts'

/** Attributes by name, their values in hexadecimal. ACLs and the label of SELinux are among them. */
type Attributes = ReadonlyMap<string, string>

/** What is made from the content of a file, and would be wrong for another one; and what gives a program rights. */
const notCarried = new Set(['security.ima', 'security.evm', 'security.capability'])
const accessList = 'system.posix_acl_access'

/**
 * Gives an open file the owner, the group, the mode, the ACL and the extended attributes of another one, the label of SELinux
 * among them. Node has no calls for attributes: getfattr(1) and setfattr(1) of the package attr have. They see the files as
 * descriptors, so that no name is opened.
 *
 * Throws `not-supported` with what cannot be carried over: the owner, unless we are root, or what the file system refuses.
 */
export async function carryAttributes (from: number, to: number): Promise<void> {
  const [had, has] = [await readAttributes(from), await readAttributes(to)]
  await carryOwner(from, to)
  for (const [name, value] of had) {
    if (has.get(name) !== value) await setAttribute(to, name, value)
  }
  // a list that the folder gave the new file would let others in
  if (has.has(accessList) && !had.has(accessList)) await change(to, accessList, ['-x', accessList])
  // the mode last: a change of owner clears bits of it, and an ACL sets those of the group
  // never set-user-id: an image is no program, and what is in it may be anybody's
  const { mode } = await statFd(from)
  await chmodFd(to, Number(mode) & 0o777)
}

async function carryOwner (from: number, to: number): Promise<void> {
  const [old, now] = [await statFd(from), await statFd(to)]
  if (old.uid === now.uid && old.gid === now.gid) return
  try {
    await chownFd(to, Number(old.uid), Number(old.gid))
  } catch (error) {
    if (!hasErrno(error, 'EPERM')) throw error
    throw lost(`owner ${old.uid}:${old.gid}`, 'only root can give files to others', error)
  }
}

async function readAttributes (fd: number): Promise<Attributes> {
  try {
    const { exitCode, stdout, stderr } = await run(['getfattr', '--dump', '--match=-', '--encoding=hex', '--absolute-names', '/proc/self/fd/3'], { fds: [fd] })
    if (exitCode !== 0) throw new AppError('storage-failed', `The attributes of a file cannot be read: ${stderr.trim()}`)
    return parseAttributes(stdout)
  } catch (error) {
    if (error instanceof CommandError && error.notFound) throw new AppError('not-supported', 'An image is replaced with its ACL, label and attributes, and the program getfattr for that is not installed. Install the package attr, or delete the image first.', { cause: error })
    throw error
  }
}

/** A line each, `name=0xvalue`; bytes of a name that are no letters are octal numbers. */
export function parseAttributes (dump: string): Attributes {
  return new Map(dump.split('\n').flatMap((line): Array<[string, string]> => {
    const [, name, value = ''] = /^([^#=][^=]*)=(?:0x([0-9a-f]*)|"")$/.exec(line) ?? []
    return name === undefined || notCarried.has(name) ? [] : [[unescape(name), value]]
  }))
}

function unescape (name: string): string {
  return Buffer.from(name.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8))), 'latin1').toString()
}

async function setAttribute (fd: number, name: string, value: string): Promise<void> {
  await change(fd, name, ['-n', name, ...value === '' ? [] : ['-v', `0x${value}`]])
}

async function change (fd: number, name: string, options: readonly string[]): Promise<void> {
  const { exitCode, stderr } = await run(['setfattr', ...options, '/proc/self/fd/3'], { fds: [fd], maxOutput: 0 })
  if (exitCode !== 0) throw lost(`attribute ${name}`, stderr.trim().split(': ').at(-1) ?? '')
}

function lost (what: string, why: string, cause?: unknown): AppError {
  return new AppError('not-supported', `The ${what} of the image cannot be given to the file that is to replace it: ${why}. To have a copy without it, delete the image first.`, { cause })
}
