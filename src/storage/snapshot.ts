/** Answers many askers with one look: those who come while it is under way share it, those who come soon after get its answer. */
export class Snapshots<T> {
  readonly #maxAgeMs: number
  readonly #entries = new Map<string, { look: Promise<T>, at: number }>()

  constructor (maxAgeMs: number) {
    this.#maxAgeMs = maxAgeMs
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
    this.#forgetOld(now)
    const fresh = { look: look(), at: now }
    this.#entries.set(key, fresh)
    // a failure is no answer to give to the next one
    fresh.look.catch(() => { if (this.#entries.get(key) === fresh) this.#entries.delete(key) })
    return await fresh.look
  }

  /** The next asker gets a fresh look: something was changed. */
  forget (): void {
    this.#entries.clear()
  }

  #forgetOld (now: number): void {
    for (const [key, { at }] of this.#entries) if (now - at >= this.#maxAgeMs) this.#entries.delete(key)
  }
}
