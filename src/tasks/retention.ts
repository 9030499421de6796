import type { Run } from './run.ts'

/**
 * Forgets finished runs when their time is up. Every run is kept equally long, so the order of finishing is the order
 * of expiry, and one timer serves them all. Time is monotonic: setting the clock neither prolongs nor shortens it.
 */
export class Retention {
  readonly #retentionMs: number
  readonly #expire: (run: Run) => void
  readonly #due = new Map<Run, number>()
  #timer: NodeJS.Timeout | undefined

  constructor (retentionMs: number, expire: (run: Run) => void) {
    this.#retentionMs = retentionMs
    this.#expire = expire
  }

  add (run: Run): void {
    run.expiresAt = Date.now() + this.#retentionMs
    this.#due.set(run, performance.now() + this.#retentionMs)
    this.#arm()
  }

  remove (run: Run): void {
    this.#due.delete(run)
  }

  stop (): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#due.clear()
  }

  #arm (): void {
    if (this.#timer !== undefined) return
    const [next] = this.#due.values()
    if (next === undefined) return
    // a timer beyond 2^31 - 1 ms would fire at once
    const delay = Math.min(Math.max(next - performance.now(), 0), 2 ** 31 - 1)
    this.#timer = setTimeout(() => { this.#sweep() }, Math.ceil(delay)).unref()
  }

  #sweep (): void {
    this.#timer = undefined
    const now = performance.now()
    for (const [run, due] of this.#due) {
      if (due > now) break
      this.#due.delete(run)
      this.#expire(run)
    }
    this.#arm()
  }
}
