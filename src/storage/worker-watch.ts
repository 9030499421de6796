import type { Progress } from '../api/task.ts'
import { StandstillWatch, type Standstill } from '../system/standstill.ts'
import { stallOf, withStall } from './stall.ts'

const intervalMs = 2000

/**
 * Watches a worker process from outside, for one that is stopped says nothing any more. What it says passes through here.
 * The programs that it runs it watches itself.
 */
export class WorkerWatch {
  readonly #watch = new StandstillWatch()
  readonly #report: (progress: Progress) => void
  readonly #timer: NodeJS.Timeout
  #latest: Progress
  #still: readonly Standstill[] = []

  /** @param initial what is told of it before it has said anything. */
  constructor (pid: number | undefined, initial: Progress, report: (progress: Progress) => void) {
    this.#latest = initial
    this.#report = report
    this.#timer = setInterval(() => {
      if (pid !== undefined) this.#look(pid)
    }, intervalMs).unref()
  }

  report (progress: Progress): void {
    this.#latest = progress
    this.#tell()
  }

  stop (): void {
    clearInterval(this.#timer)
  }

  #look (pid: number): void {
    const before = this.#still
    this.#still = this.#watch.look([{ pid, name: 'copy worker' }]).filter(process => process.pid === pid)
    if (before.length > 0 || this.#still.length > 0) this.#tell()
  }

  #tell (): void {
    this.#report(withStall(this.#latest, stallOf([], this.#still)))
  }
}
