import { CommandError, run } from '../system/run.ts'
import { parseLeader, parseLockspaces, resultIn, type Leader, type Lockspace } from './answers.ts'

/** A resource of sanlock: one lease at the start of a file. */
export interface Resource {
  lockspace: string
  name: string
  /** As the daemon sees it. */
  path: string
}

/** How the blocks of a lease lie on storage. */
export interface LeaseShape { sectorBytes: number, alignBytes: number }

/** Error numbers of sanlock that are decided by (sanlock_rv.h, errno.h); all are negative. */
export const sanlockError = {
  /** ENOENT: no daemon, or no such file. */
  absent: -2,
  /** ESRCH: the daemon does not know the process. */
  unregistered: -3,
  denied: -13,
  /** EEXIST: it is held on this host; of a lockspace: it is joined. */
  exists: -17,
  /** ENOSPC: the lockspace is not joined. */
  notJoined: -28,
  inProgress: -115,
  hostIdBusy: -262
} as const

/** EAGAIN, EBUSY, EEXIST, and what the algorithm says when somebody else has the lease, or is just taking it. */
const busy = new Set([-11, -16, -17, -243, -244, -245, -246])
/** EMSGSIZE, and whatever it finds where a lease should be that is none, or another one. */
const invalid = new Set([-90, -222, -223, -224, -225, -226, -227, -228, -229])

export const isBusy = (result: number): boolean => busy.has(result)
export const isInvalid = (result: number): boolean => invalid.has(result)

/** The daemon answers at once, but for what it must look at the storage for. Less than readers of a domain wait. */
const answerMs = 3000
/** A paxos lease is a few reads and writes; each that hangs is given up after ten seconds. */
const storageMs = 60_000

/** A path in an argument: the colon is what separates its members. */
export function escapePath (path: string): string {
  return path.replaceAll(/[\\:]/g, '\\$&')
}

const wordsOf = ({ lockspace, name, path }: Resource) => `${lockspace}:${name}:${escapePath(path)}:0`

interface Answer { result: number, stdout: string }

/** @throws CommandError when it is not installed, or does not end in time. */
async function sanlock (args: readonly string[], timeoutMs: number | undefined, fds: readonly number[] = []): Promise<Answer> {
  const { exitCode, signal, stdout, stderr, argv } = await run(['sanlock', ...args], { fds, maxOutput: 16 * 1024 * 1024, ...(timeoutMs !== undefined && { timeoutMs }) })
  const result = resultIn(stdout) ?? (exitCode === 0 ? 0 : undefined)
  if (result === undefined) throw new CommandError(`sanlock ${args.slice(0, 2).join(' ')} gave no result: ${(stderr || stdout).trim().slice(0, 500)}`, { argv, exitCode, signal, stderr })
  return { result, stdout }
}

/** The lockspaces that this host is in; the error number instead, when the daemon does not answer. */
export async function readLockspaces (): Promise<{ lockspaces: Lockspace[] } | { error: number }> {
  const { result, stdout } = await sanlock(['client', 'gets', '-h', '1'], answerMs)
  return result < 0 ? { error: result } : { lockspaces: parseLockspaces(stdout) }
}

/** Joins a lockspace, which takes twenty seconds, and minutes after this host has died in it. Returns the result. */
export async function joinLockspace ({ lockspace, path, hostId }: { lockspace: string, path: string, hostId: number }): Promise<number> {
  return (await sanlock(['client', 'add_lockspace', '-s', `${lockspace}:${hostId}:${escapePath(path)}:0`], undefined)).result
}

/** Takes a resource for a registered process. Returns the result. */
export async function acquire (resource: Resource, mode: 'exclusive' | 'shared', pid: number): Promise<number> {
  return (await sanlock(['client', 'acquire', '-r', `${wordsOf(resource)}${mode === 'shared' ? ':SH' : ''}`, '-p', String(pid)], storageMs)).result
}

/** Gives a resource back. Returns the result. */
export async function release (resource: Resource, pid: number): Promise<number> {
  return (await sanlock(['client', 'release', '-r', wordsOf(resource), '-p', String(pid)], answerMs)).result
}

/** Whether a registered process has a resource. */
export async function holds ({ lockspace, name }: Resource, pid: number): Promise<boolean> {
  const { result, stdout } = await sanlock(['client', 'inquire', '-p', String(pid)], answerMs)
  return result === 0 && new RegExp(`(?:^|[" ])${lockspace}:${name}:`, 'm').test(stdout)
}

/** Reads the lease in an open file; its error number instead, if it is none. */
export async function readLease (fd: number, { lockspace, name }: Pick<Resource, 'lockspace' | 'name'>): Promise<Leader | { error: number }> {
  const { result, stdout } = await sanlock(['direct', 'read_leader', '-r', `${lockspace}:${name}:/proc/self/fd/3:0`], storageMs, [fd])
  return (result < 0 ? undefined : parseLeader(stdout)) ?? { error: result }
}

const alignments = new Map([[1 << 20, '1M'], [1 << 21, '2M'], [1 << 22, '4M'], [1 << 23, '8M']])

/** Makes an open file a lease that nobody has. @throws CommandError */
export async function initialiseLease (fd: number, { lockspace, name }: Pick<Resource, 'lockspace' | 'name'>, { sectorBytes, alignBytes }: LeaseShape): Promise<void> {
  const args = ['direct', 'init', '-r', `${lockspace}:${name}:/proc/self/fd/3:0`, '-Z', String(sectorBytes), '-A', alignments.get(alignBytes) ?? '1M']
  const { result } = await sanlock(args, storageMs, [fd])
  if (result < 0) throw new CommandError(`sanlock direct init ended with ${result}`, { argv: ['sanlock', ...args], exitCode: result })
}
