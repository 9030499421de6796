import { statfs } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Progress } from '../../api/task.ts'
import { runningPrograms } from '../../system/run.ts'
import { StandstillWatch, type Standstill } from '../../system/standstill.ts'
import { stallOf, withStall } from '../stall.ts'

const intervalMs = 2000
/** As long as a read of a domain may take before it is answered with 504. */
const silentMs = 5000

/**
 * Watches whether the storage answers while a copy works on it. Nothing that a copy does tells: a window may rightly
 * take minutes, and one on a dead server looks the same. So the file systems are asked for their free space, which none
 * of the shared ones answers from memory. And the programs of the copy are looked at, whether one is stopped or hangs.
 * While something stands still, what is reported says since when, and neither a rate nor an estimate.
 */
export class Pulse {
  readonly #report: (progress: Progress) => void
  readonly #stopped = new AbortController()
  readonly #silentSince = new Map<number, string>()
  readonly #programs = new StandstillWatch()
  #still: readonly Standstill[] = []
  readonly #looking: NodeJS.Timeout
  #latest: Progress | undefined

  /**
   * @param fds files on the file systems that are to answer.
   * @param latest what is told while something stands still before there is anything else to tell.
   */
  constructor (fds: readonly number[], report: (progress: Progress) => void, latest?: Progress) {
    this.#report = report
    this.#latest = latest
    for (const fd of fds) void this.#watch(fd)
    this.#looking = setInterval(() => { this.#look() }, intervalMs).unref()
  }

  /** Passes on what the copy has to report. */
  report (progress: Progress): void {
    this.#latest = progress
    this.#tell()
  }

  stop (): void {
    this.#stopped.abort()
    clearInterval(this.#looking)
  }

  #look (): void {
    const before = this.#still
    this.#still = this.#programs.look(runningPrograms())
    if (before.length > 0 || this.#still.length > 0) this.#tell()
  }

  async #watch (fd: number): Promise<void> {
    const { signal } = this.#stopped
    while (!signal.aborted) {
      const askedAt = new Date().toISOString()
      const late = setTimeout(() => {
        this.#silentSince.set(fd, askedAt)
        this.#tell()
      }, silentMs).unref()
      // one question at a time: each that gets no answer holds a thread
      await statfs(`/proc/self/fd/${fd}`).catch(() => { /* an error is an answer, too; the copy will find out */ })
      clearTimeout(late)
      if (this.#silentSince.delete(fd)) this.#tell()
      await sleep(intervalMs, undefined, { ref: false, signal }).catch(() => { /* stopped */ })
    }
  }

  #tell (): void {
    if (this.#latest === undefined || this.#stopped.signal.aborted) return
    this.#report(withStall(this.#latest, stallOf(this.#silentSince.values(), this.#still)))
  }
}
