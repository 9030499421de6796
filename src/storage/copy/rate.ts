/**
 * How fast data moves: what was moved lately over the time that it took, in which old windows fade. The first one weighs no
 * more than its time: under a limit it is over in no time, and the next ones wait for what it took.
 */
export class Rate {
  readonly #memoryMs: number
  #bytes = 0
  #elapsedMs = 0
  #since = performance.now()

  constructor (memoryMs = 10_000) {
    this.#memoryMs = memoryMs
  }

  /** Counts bytes that were moved since the last call. */
  add (bytes: number): void {
    const now = performance.now()
    const elapsed = Math.max(now - this.#since, 1)
    this.#since = now
    const kept = Math.exp(-elapsed / this.#memoryMs)
    this.#bytes = this.#bytes * kept + bytes
    this.#elapsedMs = this.#elapsedMs * kept + elapsed
  }

  get bytesPerSecond (): number | undefined {
    return this.#elapsedMs === 0 ? undefined : Math.round(this.#bytes / this.#elapsedMs * 1000)
  }
}
