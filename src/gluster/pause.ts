import { setTimeout as sleep } from 'node:timers/promises'

/** Waits; rejects with the signal's reason when that is aborted before. */
export async function pause (ms: number, signal: AbortSignal | undefined): Promise<void> {
  try {
    await sleep(ms, undefined, signal === undefined ? {} : { signal })
  } catch (error) {
    signal?.throwIfAborted()
    throw error
  }
}
