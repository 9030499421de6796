import { readFileSync } from 'node:fs'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { programFolder } from '../location.ts'
import { isRoot, statFd, type Owner } from './directory.ts'

/** What a program may do that opens files which somebody else could have made to hurt. */
export interface Confinement {
  /** The descriptors, as the program has them, whose files it may open to read. It can open nothing else. */
  reads: readonly number[]
  /** Those whose files it may also open to write. */
  writes: readonly number[]
  /** Whom it becomes if the agent is root, and that user can open the files. */
  owner: Owner | undefined
  limits: {
    cpuSeconds: number
    memoryBytes: number
  }
}

/** What keeps programs from files that were not given to them. */
export type FileSystemConfinement = 'landlock' | 'mount-namespace' | 'none'

/** What is used where the kernel has no Landlock: found out once by the agent, and handed to its children by this variable. */
export const fallbackVariable = 'VDSM_TASKS_WITHOUT_LANDLOCK'

const launcher = fileURLToPath(new URL('system/confine.pl', programFolder))

/** The command that restricts its process before it becomes another command. Its last arguments are to follow: `--`, and that command. */
function launch (options: readonly string[], { parent = process.pid, fallback = process.env[fallbackVariable] ?? 'none' } = {}): string[] {
  return ['perl', launcher, process.arch, String(parent), fallback, ...options]
}

/** The command that asks for the restrictions which this host has, and prints them. */
export function reportCommand (fallback: 'bwrap' | 'none'): [string, ...string[]] {
  return ['perl', launcher, process.arch, '0', fallback, 'report', '--']
}

/** The command that makes a directory in the one that it inherits as 3, as this user if we may become others. */
export function makeDirectoryCommand (name: string, mode: number, owner: Owner | undefined): [string, ...string[]] {
  const user = owner === undefined || !mayBecomeOthers() ? '::::' : `${owner.uid}:${owner.gid}::`
  return ['perl', launcher, process.arch, '0', 'none', `user=${user}`, `mkdir=${mode}:${name}`, '--']
}

/** Whether what this process starts may become any user. */
export function mayBecomeOthers (): boolean {
  const { root, changesUser } = ownRights()
  return root && changesUser
}

/** How the launcher says that the program is not installed: with status 127, and this. */
export const notFoundMark = 'confine: not found: '

/** How it says, with status 125 or 126, that it did not start the program. */
export const failureMark = 'confine: '

// numbers of setrlimit(2)
const limitNumbers = { cpu: 0, core: 4, memory: 9 } as const

/**
 * What to put before a command so that it runs confined.
 *
 * @param fds what it inherits as 3, 4, 5 ...
 * @param env variables that the program is to have, but not the launcher.
 */
export async function confine ({ reads, writes, owner, limits }: Confinement, fds: readonly number[], env: Readonly<Record<string, string>> = {}): Promise<string[]> {
  const files = await Promise.all([...reads, ...writes].map(async number => {
    const { uid, gid, mode } = await statFd(fds[number - 3] ?? -1)
    return { uid: Number(uid), gid: Number(gid), mode: Number(mode), isWritten: writes.includes(number) }
  }))
  return launch([
    ...reads.map(number => `read=${number}`),
    ...writes.map(number => `write=${number}`),
    ...usersFor(files, owner, ownRights()).map(user => `user=${user}`),
    // SIGXCPU tells what was too much; after that, SIGKILL ends one that does not listen to it
    `limit=${limitNumbers.cpu}:${limits.cpuSeconds}:${limits.cpuSeconds + 5}`,
    `limit=${limitNumbers.core}:0`,
    `limit=${limitNumbers.memory}:${limits.memoryBytes}`,
    ...Object.entries(env).map(([name, value]) => `env=${name}=${value}`),
    '--'
  ])
}

/** A file that is to be opened, as far as its permissions go. */
export interface FileAccess extends Pick<Owner, 'uid' | 'gid'> {
  mode: number
  isWritten: boolean
}

/** What this process may do of what is needed to make others weaker. */
interface Rights {
  root: boolean
  /** It may become any user. */
  changesUser: boolean
  /** It has capabilities that programs may get from it. */
  readsAll: boolean
  writesAll: boolean
}

// numbers of capabilities(7)
const capability = { dacOverride: 1, dacReadSearch: 2, setGid: 6, setUid: 7 } as const

let rights: Rights | undefined

/** Of a thread: in Linux, all of ours have the same. */
function ownRights (): Rights {
  if (rights !== undefined) return rights
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1] ?? '0'}`)
  const has = (number: number) => (effective >> BigInt(number) & 1n) === 1n
  rights = {
    root: isRoot(),
    changesUser: has(capability.setUid) && has(capability.setGid),
    readsAll: has(capability.dacReadSearch),
    writesAll: has(capability.dacOverride)
  }
  return rights
}

/**
 * Whom a program may become to open these files, the best first: the owner of the images, then owners of the files, then
 * root, all without capabilities. The launcher tries them in this order, for not every file system goes by the bits: a FUSE
 * file system without allow_other opens nothing for anybody but the user who has mounted it, and a server may squash root.
 * Last come those with one capability, for files that no single user can open, such as a source that only its owner
 * may read, for a target of somebody else: one that lets it read all, or, if even that does not do, write all. The
 * launcher takes these only where the program can open nothing but the files that it was given.
 */
export function usersFor (files: readonly FileAccess[], owner: Owner | undefined, { root, changesUser, readsAll, writesAll }: Rights): string[] {
  if (!root) return ['::::']
  if (!changesUser) return ['::::', ...writesAll ? [`:::${capability.dacOverride}`] : []]
  const wanted = [...owner === undefined ? [] : [owner], ...files.filter(({ isWritten }) => isWritten), ...files, { uid: 0, gid: 0 }]
  const users = wanted.filter(({ uid }, index) => wanted.findIndex(other => other.uid === uid) === index)
  const passes = ({ uid }: Owner, needed: readonly FileAccess[] = files) => needed.every(file => classOf(uid, file) !== undefined)
  const plain = [...users.filter(user => passes(user)), ...users.filter(user => !passes(user))]
  const [first] = plain
  // whatever root may open without capabilities, nobody else can open better
  if (first?.uid === 0 && passes(first) && files.every(({ uid }) => uid === 0)) return [userOption(first, files)]
  const writer = users.find(user => passes(user, files.filter(({ isWritten }) => isWritten)))
  return [
    ...plain.map(user => userOption(user, files)),
    ...readsAll && writer !== undefined ? [userOption(writer, files, capability.dacReadSearch)] : [],
    ...writesAll ? [userOption({ uid: 0, gid: 0 }, files, capability.dacOverride)] : []
  ]
}

/** As which of the three that a file knows a user can open it, if it is put into its group for that. */
function classOf (uid: number, { uid: owner, mode, isWritten }: FileAccess): 'owner' | 'others' | 'group' | undefined {
  const needed = isWritten ? 0o6 : 0o4
  const allows = (shift: number) => (mode >> shift & needed) === needed
  if (uid === owner) return allows(6) ? 'owner' : undefined
  return allows(0) ? 'others' : allows(3) ? 'group' : undefined
}

function userOption ({ uid, gid }: Owner, files: readonly FileAccess[], kept?: number): string {
  const groups = new Set(files.filter(file => classOf(uid, file) === 'group' && file.gid !== gid).map(file => file.gid))
  return `${uid}:${gid}:${[...groups].join(',')}:${kept ?? ''}`
}
