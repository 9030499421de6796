import type { Operation, OperationRate } from '../api/operation.ts'

interface Sample {
  /** Milliseconds on the monotonic clock. */
  at: number
  bytes: number
  files: number
}

type Measured = Pick<Operation, 'operationId' | 'state' | 'kind' | 'nodes' | 'totals'>

interface Series {
  hosts: string
  samples: Sample[]
}

const windowMs = 60_000
// Gluster counts a file when it is moved, and its run times are whole seconds: less says nothing.
const leastSeconds = 2

/** Measures how fast running operations move data, from one look to the next. */
export class Rates {
  readonly #series = new Map<string, Series>()

  /** Takes note of a look at `now` (milliseconds, monotonic) and returns the rate, if there is one yet. */
  measure (operation: Measured, now: number): OperationRate | undefined {
    const { operationId, state, kind, totals } = operation
    if (state !== 'running' || kind === 'fix-layout') {
      this.#series.delete(operationId)
      return undefined
    }
    const series = this.#seriesOf(operation)
    series.samples.push({ at: now, bytes: totals.bytes, files: totals.files })
    series.samples = series.samples.filter(sample => sample.at >= now - windowMs)
    const [first] = series.samples
    const seconds = first === undefined ? 0 : (now - first.at) / 1000
    if (first !== undefined && seconds >= leastSeconds) {
      return rate('recent', totals.bytes - first.bytes, totals.files - first.files, seconds)
    }
    return totals.runtimeSeconds < leastSeconds ? undefined : rate('whole-run', totals.bytes, totals.files, totals.runtimeSeconds)
  }

  /** Forgets all other operations. */
  keep (operationIds: ReadonlySet<string>): void {
    for (const id of this.#series.keys()) if (!operationIds.has(id)) this.#series.delete(id)
  }

  // A host that stops answering takes its numbers out of the sums, one that comes back brings them: no movement at all.
  #seriesOf ({ operationId, nodes }: Measured): Series {
    const hosts = nodes.map(node => node.hostUuid).sort().join()
    const known = this.#series.get(operationId)
    if (known?.hosts === hosts) return known
    const fresh: Series = { hosts, samples: [] }
    this.#series.set(operationId, fresh)
    return fresh
  }
}

function rate (basis: OperationRate['basis'], bytes: number, files: number, seconds: number): OperationRate {
  return {
    bytesPerSecond: Math.max(0, Math.round(bytes / seconds)),
    filesPerSecond: Math.max(0, Math.round(files / seconds * 100) / 100),
    basis,
    seconds: Math.round(seconds * 10) / 10
  }
}
