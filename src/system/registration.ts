import { readdirSync, readlinkSync } from 'node:fs'
import { Socket } from 'node:net'
import process from 'node:process'

/**
 * What must stand before a command for sanlock to know its process. It runs in the same process, which sanlock ends with
 * SIGTERM when this host loses a lockspace that it holds a lease in. Says a word on standard output first.
 */
export const underSanlock: readonly string[] = ['sanlock', 'client', 'command', '-c']

/** Set in the environment of a process that was started so. */
export const registeredMark = 'VDSM_TASKS_REGISTERED'

/** This process as sanlock knows it. */
export interface Registration {
  readonly pid: number
  /**
   * The connection to the daemon. What this process holds is free when the last copy of it is closed: so every program that
   * writes inherits it, and none of them can outlive the lease.
   */
  readonly fd: number
}

let found: Registration | undefined
let connection: Socket | undefined

/** Whether sanlock knows this process, and how. */
export function registration (): Registration | undefined {
  return found
}

/**
 * Looks how this process was started. Must come first in its main module: the connection that it inherited is the only
 * socket that is open by then, but for standard streams and the channel to the parent, which is 3.
 *
 * If the daemon ends, nobody renews this host's leases any more: the process ends, too, as if sanlock had said so.
 */
export function findRegistration (): void {
  if (process.env[registeredMark] === undefined) return
  const fd = readdirSync('/proc/self/fd').map(Number).filter(fd => fd > 3 && isSocket(fd)).sort((a, b) => a - b)[0]
  if (fd === undefined) return
  found = { pid: process.pid, fd }
  // nothing is ever sent on it: whatever arrives is its end
  connection = new Socket({ fd, readable: true, writable: false })
  connection.on('error', end).on('close', end).on('end', end).resume().unref()
}

function end (): void {
  process.kill(process.pid, 'SIGTERM')
}

function isSocket (fd: number): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`).startsWith('socket:')
  } catch {
    // that of the look itself
    return false
  }
}
