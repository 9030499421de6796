import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

/** What the kernel says about a process; undefined if there is none. A zombie counts as gone: it has no descriptors any more. */
function statOf (pid: number | string): { state: string, parent: number } | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // the name may contain anything, also brackets
    const [state = '', parent = ''] = text.slice(text.lastIndexOf(')') + 2).split(' ')
    return state === 'Z' || state === 'X' ? undefined : { state, parent: Number(parent) }
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ESRCH')) return undefined
    throw error
  }
}

/** Whether anything of it is left: the first thread of a killed process is a zombie while another one waits in the kernel. */
export function isAlive (pid: number): boolean {
  return threadStates(pid).length > 0
}

/** Whether one of its threads waits in the kernel and cannot even be killed. */
export function isStuck (pid: number): boolean {
  return threadStates(pid).includes('D')
}

function threadStates (pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap(thread => statOf(`${pid}/task/${thread}`)?.state ?? [])
  } catch {
    // gone in the meantime
    return []
  }
}

export function commandLine (pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim()
  } catch {
    // gone in the meantime
    return ''
  }
}

/** What a process has open. The kernel knows the names: no storage is asked for them. Throws when there is no such process. */
export function openFiles (pid: number): Array<{ fd: number, path: string }> {
  return readdirSync(`/proc/${pid}/fd`).flatMap(fd => {
    try {
      return { fd: Number(fd), path: readlinkSync(`/proc/${pid}/fd/${fd}`) }
    } catch {
      return [] // closed in the meantime
    }
  })
}

/** The sockets that a process has open, but for its standard streams; none of one that is gone. */
export function socketsOf (pid: number): string[] {
  try {
    return openFiles(pid).flatMap(({ fd, path }) => fd > 2 && path.startsWith('socket:') ? path : [])
  } catch {
    return []
  }
}

/** The living descendants of a process. */
export function descendants (pid: number): number[] {
  const children = new Map<number, number[]>()
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const parent = statOf(name)?.parent
    if (parent === undefined) continue
    children.set(parent, [...children.get(parent) ?? [], Number(name)])
  }
  const below = (of: number): number[] => (children.get(of) ?? []).flatMap(child => [child, ...below(child)])
  return below(pid)
}

/**
 * The process of an agent that reads a domain: stopped, it does to whoever asks what a storage that hangs does. It is known by
 * its command line, not by its number: numbers begin anew at the end of their range, and then the younger process has the lower one.
 */
export function domainProcess (agent: number, domain: string): number {
  const process = descendants(agent).find(pid => new RegExp(`storage/domain/main\\.[jt]s ${domain}$`).test(commandLine(pid)))
  // never 0: to send a signal to that is to send it to oneself and all around
  if (process === undefined) throw new Error(`the agent ${agent} has no process of domain ${domain}`)
  return process
}

/** Waits for a condition that only looking can tell; gives up after a minute, which nothing here takes. */
export async function until<T> (look: () => Promise<T | undefined | false> | T | undefined | false, what = 'a condition'): Promise<T> {
  for (const end = performance.now() + 60_000; performance.now() < end;) {
    const found = await look()
    if (found !== undefined && found !== false) return found
    await sleep(20)
  }
  throw new Error(`waited in vain for ${what}`)
}

export async function untilGone (...pids: number[]): Promise<void> {
  await until(() => !pids.some(isAlive))
}
