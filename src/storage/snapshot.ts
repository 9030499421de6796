interface Look<T> {
  look: Promise<T>
  at: number
  isRunning: boolean
}

/** Answers many askers with one look: those who come while it is under way share it, those who come soon after get its answer. */
export class Snapshots<T> {
  readonly #maxAgeMs: number
  readonly #oneAtATime: boolean
  readonly #entries = new Map<string, Look<T>>()

  /**
   * @param oneAtATime looks are long: who comes when one has begun too long ago waits for its end, and shares the next.
   */
  constructor (maxAgeMs: number, { oneAtATime = false } = {}) {
    this.#maxAgeMs = maxAgeMs
    this.#oneAtATime = oneAtATime
  }

  /**
   * The answer for a key, at most `maxAgeMs` old, counted from when its look began.
   *
   * @param since a time of `performance.now()`: the answer of a look that began before it is not taken.
   */
  async get (key: string, look: () => Promise<T>, since = -Infinity): Promise<T> {
    const now = performance.now()
    const entry = this.#entries.get(key)
    if (entry !== undefined && now - entry.at < this.#maxAgeMs && entry.at >= since) return await entry.look
    if (this.#oneAtATime && entry?.isRunning === true) {
      await entry.look
      return await this.get(key, look, since)
    }
    this.#forgetOld(now)
    const fresh = { look: look(), at: now, isRunning: true }
    this.#entries.set(key, fresh)
    fresh.look.then(() => { fresh.isRunning = false }, () => {
      fresh.isRunning = false
      // a failure is no answer to give to the next one
      if (this.#entries.get(key) === fresh) this.#entries.delete(key)
    })
    return await fresh.look
  }

  /** The next asker gets a fresh look: something was changed. */
  forget (): void {
    this.#entries.clear()
  }

  #forgetOld (now: number): void {
    for (const [key, { at, isRunning }] of this.#entries) if (!isRunning && now - at >= this.#maxAgeMs) this.#entries.delete(key)
  }
}
