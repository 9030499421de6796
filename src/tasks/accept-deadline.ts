interface AcceptDeadlineOptions {
  ms: number
  /** Rejects if what the task works on does not answer. Nobody is asked where it is absent. */
  probe: (() => Promise<void>) | undefined
  /** Called once, at the end. @param waitedMs since the last step; @param answers a late probe was answered. */
  passed: (waitedMs: number, answers: boolean) => void
}

/** How many times the deadline a step may take while the storage answers. */
const mostRounds = 6

/**
 * The deadline of an accept step. It measures how long the storage is silent: each step that is done starts it again.
 * From half-time on the storage is probed again and again. While it answers, the host is busy, and the deadline is
 * extended; not for ever, because a program can hang, too.
 */
export class AcceptDeadline {
  readonly #probe: (() => Promise<void>) | undefined
  readonly #ms: number
  readonly #deadline: NodeJS.Timeout
  readonly #halfTime: NodeJS.Timeout | undefined
  /** Counts the beginnings: what a probe of an earlier one says is out of date. */
  #round = 0
  #extended = 0
  #answers = false
  #askedAt: number | undefined
  #next: NodeJS.Timeout | undefined

  constructor ({ ms, probe, passed }: AcceptDeadlineOptions) {
    this.#ms = ms
    this.#probe = probe
    this.#deadline = setTimeout(() => {
      // one that has waited for so long is not going to be answered soon
      const isLate = this.#askedAt !== undefined && performance.now() - this.#askedAt > ms / 4
      const answers = this.#answers && !isLate
      this.#extended++
      if (answers && this.#extended < mostRounds) return this.#restart()
      this.stop()
      passed(ms * this.#extended, answers)
    }, ms)
    if (probe !== undefined) this.#halfTime = setTimeout(() => { void this.#ask(this.#round) }, ms / 2)
  }

  /** A step is done: starts again. */
  refresh (): void {
    this.#extended = 0
    this.#restart()
  }

  #restart (): void {
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
