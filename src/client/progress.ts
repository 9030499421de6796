import type { Progress } from './types.ts'

// What the command line and the page say of the progress of a task. Without any other module: the page is made from it, too.

/**
 * What a percentage is of, in bytes: of a copy the data that it moves, for most of a disk may be empty; of a comparison the
 * disk. Undefined where nothing is known yet.
 */
export function workOf (
  { phase, bytesTotal, bytesDone = 0, bytesToMove = 0, bytesMoved = 0 }: Progress
): { done: number, total: number } | undefined {
  if (phase === 'copying' && bytesToMove > 0) return { done: bytesMoved, total: bytesToMove }
  return bytesTotal === undefined ? undefined : { done: bytesDone, total: bytesTotal }
}

/** Rounded down: 100 is said of what is complete. */
export function percentOf (done: number, total: number): number {
  return total === 0 ? 100 : Math.floor(done / total * 100)
}

/** Why nothing goes on; undefined while it does. */
export function stalledWords ({ stalledSince, stalledProcess }: Progress): string | undefined {
  if (stalledSince === undefined) return undefined
  if (stalledProcess === undefined) return 'the storage does not answer'
  const { pid, name, state } = stalledProcess
  return `${name} (process ${pid}) ${state === 'stopped' ? 'is stopped' : 'hangs'}`
}
