import { setTimeout as sleep } from 'node:timers/promises'
import { hasErrno } from '../system/errno.ts'

/**
 * For how long a host may not see what another one has done on a file system that they share: records were read up to
 * a second old, and a name that was just renamed over was not found, or its file was stale. Twice that is waited.
 */
export const unsettledMs = 2000
const pauseMs = 100

/** Whether the file system is this host's alone: what is read there is as it is. */
interface Shared { readonly local: boolean }

/** Reads, and reads again while something that should be there is not. All reads of one `patience` share the wait. */
export type Patiently = <T>(read: () => Promise<T>, isThere?: (found: T) => boolean) => Promise<T>

/**
 * For readers of a domain: a read that ends with ENOENT or ESTALE, or without what should be there, is repeated for two
 * seconds before it is believed. On a local file system it is believed at once.
 */
export function patience ({ local }: Shared): Patiently {
  const end = performance.now() + unsettledMs
  return async (read, isThere = () => true) => {
    for (;;) {
      const isLast = local || performance.now() >= end
      try {
        const found = await read()
        if (isLast || isThere(found)) return found
      } catch (error) {
        if (isLast || !hasErrno(error, 'ENOENT', 'ESTALE')) throw error
      }
      await sleep(pauseMs)
    }
  }
}

/** For writers, after a lease that somebody may have held before: what is read from now on is what that one has left. */
export async function outlastOthers ({ local }: Shared, { existed }: { existed: boolean }): Promise<void> {
  if (existed && !local) await sleep(unsettledMs)
}
