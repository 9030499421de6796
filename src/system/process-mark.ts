import { readFileSync, readlinkSync } from 'node:fs'
import process from 'node:process'
import { hasErrno } from './errno.ts'

/** Names a process for other processes of the same kernel. A number alone is used again. */
export interface ProcessMark {
  /** The boot of the kernel that it runs under. */
  boot: string
  /** The namespace that its number is of. */
  namespace: string
  pid: number
  /** When it started, in clock ticks since that boot. */
  started: string
}

/** The mark of this process. */
export function ownMark (): ProcessMark {
  return { ...surroundings(), pid: process.pid, started: startOf(process.pid) ?? '' }
}

/** Whether the marked process has certainly ended. False for one of another kernel or namespace: who can tell? */
export function hasEnded (mark: ProcessMark): boolean {
  const { boot, namespace } = surroundings()
  if (mark.boot !== boot || mark.namespace !== namespace) return false
  try {
    process.kill(mark.pid, 0)
  } catch (error) {
    // EPERM: it is there, and another user's
    return hasErrno(error, 'ESRCH')
  }
  const started = startOf(mark.pid)
  return started !== undefined && started !== mark.started
}

function surroundings (): Pick<ProcessMark, 'boot' | 'namespace'> {
  return { boot: readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim(), namespace: readlinkSync('/proc/self/ns/pid') }
}

/** Undefined where /proc hides it: with `hidepid`, other users' processes cannot be seen. */
function startOf (pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // the name may contain anything, also brackets; behind it, the start is the twentieth field
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]
  } catch {
    return undefined
  }
}
