/** How fast data moves: a mean over the last seconds, in which old windows fade. */
export class Rate {
  readonly #memoryMs: number
  #bytesPerMs: number | undefined
  #since = performance.now()

  constructor (memoryMs = 10_000) {
    this.#memoryMs = memoryMs
  }

  /** Counts bytes that were moved since the last call. */
  add (bytes: number): void {
    const now = performance.now()
    const elapsed = Math.max(now - this.#since, 1)
    this.#since = now
    const measured = bytes / elapsed
    const weight = 1 - Math.exp(-elapsed / this.#memoryMs)
    this.#bytesPerMs = this.#bytesPerMs === undefined ? measured : this.#bytesPerMs + weight * (measured - this.#bytesPerMs)
  }

  get bytesPerSecond (): number | undefined {
    return this.#bytesPerMs === undefined ? undefined : Math.round(this.#bytesPerMs * 1000)
  }
}
