import type { Test } from 'tap'

interface Timer {
  due: number
  run: () => void
}

/**
 * A clock that is moved by hand, for the tests whose subject is time: `setTimeout`, the monotonic time and the wall
 * clock. Timers of less than `atLeastMs` stay real, so that sockets and the like go on working.
 */
export class Clock {
  readonly #timers = new Set<Timer>()
  #monotonic = 1000
  #wall = Date.parse('2026-01-01T00:00:00Z')
  /** How many timers were ever set. */
  set = 0

  constructor (t: Test, { atLeastMs = 0 } = {}) {
    const { setTimeout: realSet, clearTimeout: realClear } = globalThis
    t.intercept(globalThis, 'setTimeout', {
      configurable: true,
      value: (...args: [() => void, number?]) => (args[1] ?? 0) < atLeastMs ? realSet(...args) : this.#start(...args)
    })
    t.intercept(globalThis, 'clearTimeout', {
      configurable: true,
      value: (timer: NodeJS.Timeout | Timer | undefined) => { if (!this.#timers.delete(timer as Timer)) realClear(timer as NodeJS.Timeout) }
    })
    t.intercept(performance, 'now', { configurable: true, value: () => this.#monotonic })
    t.intercept(Date, 'now', { configurable: true, value: () => this.#wall })
  }

  /** How many timers are waiting. */
  get waiting (): number { return this.#timers.size }

  get wall (): number { return this.#wall }
  set wall (ms: number) { this.#wall = ms }

  /** Lets time go by; timers run when it is their turn. */
  pass (ms: number): void {
    const end = this.#monotonic + ms
    for (;;) {
      const next = [...this.#timers].filter(({ due }) => due <= end).sort((a, b) => a.due - b.due)[0]
      this.#advance(Math.max(0, (next?.due ?? end) - this.#monotonic))
      if (next === undefined) return
      this.#timers.delete(next)
      next.run()
    }
  }

  #advance (ms: number): void {
    this.#monotonic += ms
    this.#wall += ms
  }

  #start (run: () => void, ms = 0): Timer {
    this.set++
    // Node lets a delay that does not fit run out at once
    const delay = ms > 2 ** 31 - 1 ? 1 : ms
    const timer = {
      due: 0,
      run,
      refresh: () => {
        timer.due = this.#monotonic + delay
        this.#timers.add(timer)
        return timer
      },
      unref: () => timer,
      ref: () => timer
    }
    return timer.refresh()
  }
}
