/** One look at a time, shared by all who ask while it lasts and for a while after: a thousand pollers cost one look. */
export class Snapshot<T> {
  readonly #look: () => Promise<T>
  readonly #maxAgeMs: number
  #current: { started: number, value: Promise<T>, running: boolean } | undefined

  constructor (look: () => Promise<T>, maxAgeMs: number) {
    this.#look = look
    this.#maxAgeMs = maxAgeMs
  }

  /** What was seen at most `maxAgeMs` ago. A look that failed is not kept. */
  read (): Promise<T> {
    const current = this.#current
    if (current !== undefined) {
      if (performance.now() - current.started < this.#maxAgeMs) return current.value
      // begun too long ago: its beginning may be outdated when it ends
      if (current.running) return current.value.then(() => this.read())
    }
    const next = { started: performance.now(), value: this.#look(), running: true }
    this.#current = next
    next.value.then(() => { next.running = false }, () => { if (this.#current === next) this.#current = undefined })
    return next.value
  }

  /** Something has changed: the next reader gets a new look, even while one is under way. */
  expire (): void {
    this.#current = undefined
  }
}
