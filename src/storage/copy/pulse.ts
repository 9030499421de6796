import { statfs } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Progress } from '../../api/task.ts'

const intervalMs = 2000
/** As long as a read of a domain may take before it is answered with 504. */
const silentMs = 5000

/**
 * Watches whether the storage answers while a copy works on it. Nothing that a copy does tells: a window may rightly
 * take minutes, and one on a dead server looks the same. So the file systems are asked for their free space, which none
 * of the shared ones answers from memory. While one is silent, what is reported says since when, and neither a rate nor
 * an estimate.
 */
export class Pulse {
  readonly #report: (progress: Progress) => void
  readonly #stopped = new AbortController()
  readonly #silentSince = new Map<number, string>()
  #latest: Progress | undefined

  /** @param fds files on the file systems that are to answer. */
  constructor (fds: readonly number[], report: (progress: Progress) => void) {
    this.#report = report
    for (const fd of fds) void this.#watch(fd)
  }

  /** Passes on what the copy has to report. */
  report (progress: Progress): void {
    this.#latest = progress
    this.#tell()
  }

  stop (): void {
    this.#stopped.abort()
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
    const [stalledSince] = [...this.#silentSince.values()].sort()
    if (stalledSince === undefined) return this.#report(this.#latest)
    const { bytesPerSecond: _, etaSeconds: __, ...told } = this.#latest
    this.#report({ ...told, stalledSince })
  }
}
