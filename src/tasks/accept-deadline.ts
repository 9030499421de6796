interface AcceptDeadlineOptions {
  ms: number
  /** Rejects if what the task works on does not answer. Nobody is asked where it is absent. */
  probe: (() => Promise<void>) | undefined
  /** Called once, at the deadline. @param answers a probe that was made late enough was answered. */
  passed: (answers: boolean) => void
}

/**
 * The deadline of an accept step. It is there for storage that hangs, but a busy host can exceed it, too. So the storage is
 * probed again and again from half-time on: at the deadline it is known which of the two it was.
 */
export class AcceptDeadline {
  readonly #probe: (() => Promise<void>) | undefined
  readonly #ms: number
  readonly #deadline: NodeJS.Timeout
  readonly #halfTime: NodeJS.Timeout | undefined
  /** Counts the beginnings: what a probe of an earlier one says is out of date. */
  #round = 0
  #answers = false
  #askedAt: number | undefined
  #next: NodeJS.Timeout | undefined

  constructor ({ ms, probe, passed }: AcceptDeadlineOptions) {
    this.#ms = ms
    this.#probe = probe
    this.#deadline = setTimeout(() => {
      // one that has waited for so long is not going to be answered soon
      const isLate = this.#askedAt !== undefined && performance.now() - this.#askedAt > ms / 4
      this.stop()
      passed(this.#answers && !isLate)
    }, ms)
    if (probe !== undefined) this.#halfTime = setTimeout(() => { void this.#ask(this.#round) }, ms / 2)
  }

  /** Begins anew: a step was made. */
  refresh (): void {
    this.#round++
    this.#answers = false
    this.#askedAt = undefined
    clearTimeout(this.#next)
    this.#deadline.refresh()
    this.#halfTime?.refresh()
  }

  stop (): void {
    this.#round++
    for (const timer of [this.#deadline, this.#halfTime, this.#next]) clearTimeout(timer)
  }

  async #ask (round: number): Promise<void> {
    this.#askedAt = performance.now()
    const answers = await this.#probe?.().then(() => true, () => false) ?? false
    if (round !== this.#round) return
    this.#answers = answers
    this.#askedAt = undefined
    this.#next = setTimeout(() => { void this.#ask(round) }, this.#ms / 10)
  }
}
