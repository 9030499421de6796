import { setTimeout as sleep } from 'node:timers/promises'
import type { Operation, OperationList } from '../api/operation.ts'
import { AppError, type ErrorCode } from '../errors.ts'

export interface PollerOptions {
  operations: { list (): Promise<OperationList> }
  /** Seconds between looks while something runs. */
  pollSeconds: number
  /**
   * Seconds between looks while nothing is known to run. They are what shows an operation that another host or a person
   * has started; each costs one locking command. Default 30.
   */
  idleSeconds?: number
  /** An operation appeared, changed its state, or is gone. */
  onChange (operation: Operation): void
  /** Only the numbers of a running operation are new. */
  onProgress (operation: Operation): void
  log: { info (fields: object, message: string): void, warn (fields: object, message: string): void }
}

/** Looks at the operations again and again, and tells what is new. */
export class Poller {
  readonly #options: PollerOptions
  readonly #idleSeconds: number
  readonly #stopping = new AbortController()
  #waiting = new AbortController()
  #known: Map<string, Operation> | undefined
  #trouble: ErrorCode | undefined
  #settled = 0

  constructor (options: PollerOptions) {
    this.#options = options
    this.#idleSeconds = options.idleSeconds ?? 30
  }

  start (): void {
    this.#run().catch((error: unknown) => { this.#options.log.warn({ err: error }, 'the Gluster poller has ended') })
  }

  /** Nothing is told any more. A look that is under way ends by itself. */
  stop (): void {
    this.#stopping.abort()
    this.#waiting.abort()
  }

  /** Looks now: something was just started or stopped. */
  nudge (): void {
    this.#waiting.abort()
  }

  /** An operation ended here: tells its last state, which no later look will show. */
  settle (operation: Operation): void {
    this.#known?.delete(operation.operationId)
    this.#settled++
    this.#options.onChange(operation)
  }

  async #run (): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      // renewed before the look, so that a nudge while it is under way is not lost
      this.#waiting = new AbortController()
      const busy = await this.#look()
      const seconds = busy ? this.#options.pollSeconds : this.#idleSeconds * (0.75 + Math.random() / 2)
      if (this.#stopping.signal.aborted) return
      await sleep(seconds * 1000, undefined, { signal: this.#waiting.signal, ref: false }).catch((error: unknown) => {
        if (!this.#waiting.signal.aborted) throw error
      })
    }
  }

  /** Whether something runs, or may. */
  async #look (): Promise<boolean> {
    const settled = this.#settled
    try {
      const list = await this.#options.operations.list()
      const { items } = list
      this.#trouble = undefined
      // a look from before an end would tell of the operation as if it were a new one
      if (this.#settled !== settled) return true
      if (!this.#stopping.signal.aborted) this.#tell(list)
      return items.some(item => item.state === 'running' || (item.state === 'unknown' && !item.complete))
    } catch (error) {
      this.#complain(error)
      return false
    }
  }

  #tell ({ items, unknown = [], observedAt }: OperationList): void {
    const before = this.#known
    // a look that could not tell about an operation is no news of it
    const hidden = [...before?.values() ?? []].filter(({ volume }) => unknown.some(of => of.volume === volume))
    const seen = [...hidden, ...items.flatMap(item => isTold(item) ? item : before?.get(item.operationId) ?? [])]
    this.#known = new Map(seen.map(item => [item.operationId, item]))
    for (const item of seen) {
      const last = before?.get(item.operationId)
      if (last === item) continue
      // what has ended before this agent started is no news
      if (last === undefined ? before !== undefined || item.state === 'running' : essence(last) !== essence(item)) this.#options.onChange(item)
      else if (last !== undefined && item.state === 'running') this.#options.onProgress(item)
    }
    for (const last of before?.values() ?? []) {
      if (!this.#known.has(last.operationId)) this.#options.onChange({ ...last, state: 'gone', observedAt })
    }
  }

  // On a host without Gluster, that is once: not every half minute.
  #complain (error: unknown): void {
    const code = error instanceof AppError ? error.code : 'internal'
    if (code === this.#trouble) return
    this.#trouble = code
    const { log } = this.#options
    if (code === 'gluster-unavailable') log.info({ code }, 'Gluster is not available; looking again from time to time')
    else log.warn({ err: error }, 'the Gluster operations could not be read')
  }
}

/** One value that could not be read leaves the others. */
function isTold ({ problem, nodes }: Operation): boolean {
  return problem === undefined || nodes.length > 0
}

/** Everything about an operation but its numbers. */
function essence ({ nodes, totals, rate, estimate, observedAt, startedAt, problem, ...rest }: Operation): string {
  return JSON.stringify([rest, nodes.map(({ hostUuid, state }) => `${hostUuid} ${state}`).sort()])
}
