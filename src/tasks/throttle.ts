/** Passes on the newest of what it is given, at most once an interval. */
export class Throttle<T> {
  readonly #intervalMs: number
  readonly #publish: (progress: T) => void
  #latest: T | undefined
  #timer: NodeJS.Timeout | undefined

  constructor (intervalMs: number, publish: (progress: T) => void) {
    this.#intervalMs = intervalMs
    this.#publish = publish
  }

  push (progress: T): void {
    this.#latest = progress
    if (this.#timer === undefined) this.#send()
  }

  /** Sends what is waiting now, so that the last numbers are seen before the end is. */
  flush (): void {
    if (this.#latest !== undefined) this.#send()
  }

  /** Forgets what is waiting. What comes next is still not passed on before its time. */
  discard (): void {
    this.#latest = undefined
  }

  /** Forgets what is waiting, and leaves no timer behind. */
  stop (): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#latest = undefined
  }

  #send (): void {
    clearTimeout(this.#timer)
    const latest = this.#latest
    this.#latest = undefined
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      if (this.#latest !== undefined) this.#send()
    }, this.#intervalMs)
    if (latest !== undefined) this.#publish(latest)
  }
}
