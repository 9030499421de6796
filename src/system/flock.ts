import { getSystemErrorMap } from 'node:util'
import { setTimeout as sleep } from 'node:timers/promises'
import koffi from 'koffi'

// flock(2), which Node does not have. The number of each mode is that of <sys/file.h>, the same on all of Linux.
const operations = { shared: 1, exclusive: 2 } as const
const nonBlocking = 4
const EAGAIN = 11
/** Often enough for one who looks at a lock, which takes it for an instant. */
const retryMs = 20

/** On a thread of libuv: on a storage that hangs, only this call hangs. */
const flock = koffi.load(null).func('int flock(int, int)')

/** An error of flock(2), with the members that Node's own system errors have. */
export class LockError extends Error {
  readonly syscall = 'flock'
  readonly errno: number
  readonly code: string

  constructor (errno: number) {
    const [code = `errno ${errno}`, words = 'unknown error'] = getSystemErrorMap().get(-errno) ?? []
    super(`${code}: ${words}, flock`)
    this.name = 'LockError'
    this.errno = -errno
    this.code = code
  }
}

/**
 * Locks an open file description; whoever inherits the descriptor holds the lock, too. A lock that is held already is
 * confirmed, or changes its mode. Returns whether it was to be had. Throws LockError.
 *
 * @param waitMs how long to try.
 */
export async function lockFd (fd: number, mode: 'shared' | 'exclusive', waitMs = 0): Promise<boolean> {
  for (const end = performance.now() + waitMs; ;) {
    const errno = await new Promise<number>((resolve, reject) => {
      flock.async(fd, operations[mode] | nonBlocking, (error: Error | null, result: number) => {
        if (error !== null) reject(error)
        else resolve(result === -1 ? koffi.errno() : 0)
      })
    })
    if (errno === 0) return true
    if (errno !== EAGAIN) throw new LockError(errno)
    if (performance.now() >= end) return false
    await sleep(retryMs)
  }
}
