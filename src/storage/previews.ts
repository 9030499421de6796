import { AppError } from '../errors.ts'

/** A preview has a process of its own, which costs some 40 MiB and the better part of a second of processor time. */
const atOnce = 4

/**
 * Lets a few previews run at a time for the same domains; others wait in the order in which they came. Nothing else bounds
 * them: they are no tasks. Domains do not wait for one another, for one may hang.
 */
export class Previews {
  readonly #waitMs: number
  readonly #running = new Map<string, number>()
  readonly #waiting = new Map<string, Set<() => void>>()

  constructor (waitMs = 10_000) {
    this.#waitMs = waitMs
  }

  /** Runs it when it is its turn. Throws `agent-overloaded` when that takes too long. */
  async run<T> (domains: string, preview: () => Promise<T>): Promise<T> {
    await this.#turn(domains)
    try {
      return await preview()
    } finally {
      this.#leave(domains)
    }
  }

  async #turn (domains: string): Promise<void> {
    const running = this.#running.get(domains) ?? 0
    if (running < atOnce) {
      this.#running.set(domains, running + 1)
      return
    }
    const waiting = this.#waiting.get(domains) ?? new Set()
    this.#waiting.set(domains, waiting)
    await new Promise<void>((resolve, reject) => {
      const begin = () => {
        clearTimeout(timer)
        resolve()
      }
      const timer = setTimeout(() => {
        waiting.delete(begin)
        reject(new AppError('agent-overloaded', 'Too many dry runs are asked for. Come again in a moment.', { members: { retryAfter: 2 } }))
      }, this.#waitMs)
      waiting.add(begin)
    })
  }

  /** Hands the place on. */
  #leave (domains: string): void {
    const waiting = this.#waiting.get(domains)
    const [next] = waiting ?? []
    if (next !== undefined) {
      waiting?.delete(next)
      next()
      return
    }
    this.#waiting.delete(domains)
    const left = (this.#running.get(domains) ?? 1) - 1
    if (left > 0) this.#running.set(domains, left)
    else this.#running.delete(domains)
  }
}
