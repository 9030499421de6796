import type { Progress } from '../api/task.ts'
import type { Standstill } from '../system/standstill.ts'

/** Why nothing goes on: since when, and where one is at fault, which process. */
export interface Stall {
  since: string
  process?: NonNullable<Progress['stalledProcess']>
}

/** The earliest of what stands still, with the process where there is one. */
export function stallOf (silentSince: Iterable<string>, [process]: readonly Standstill[]): Stall | undefined {
  const [since] = [...silentSince, ...process === undefined ? [] : [process.since]].sort()
  if (since === undefined) return undefined
  if (process === undefined) return { since }
  const { pid, name, state } = process
  return { since, process: { pid, name, state } }
}

/** What is told while something stands still: since when, and neither a rate nor an estimate. */
export function withStall (progress: Progress, stall: Stall | undefined): Progress {
  if (stall === undefined) return progress
  const { bytesPerSecond: _, etaSeconds: __, ...told } = progress
  const [stalledSince = stall.since] = [stall.since, progress.stalledSince ?? stall.since].sort()
  return { ...told, stalledSince, ...(stall.process !== undefined && { stalledProcess: stall.process }) }
}
