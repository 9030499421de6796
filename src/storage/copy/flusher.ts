import { setTimeout as sleep } from 'node:timers/promises'
import { AppError } from '../../errors.ts'
import { flushCode } from '../failure.ts'
import { syncData } from '../../system/durable.ts'
import { dropCached } from '../../system/page-cache.ts'
import type { CopyWindow } from './windows.ts'

const MiB = 1024 * 1024

/** Bytes written but not durable, all windows together: so many, or what the storage takes in so many seconds, if that is more. */
const dirtyBytes = 512 * MiB
const dirtySeconds = 2
/**
 * Milliseconds between two flushes while windows are copied. The kernel by itself begins to write seconds later, so that
 * the disk would idle while qemu-img fills the page cache, and all would wait for it at the end (npm run bench -- copy).
 */
const pauseMs = 20

interface FlusherOptions {
  /** The target. One descriptor, opened before the first window: it is told of every error of writing back. */
  fd: number
  image: string
  /** Windows bypass the page cache: what a flush has to write is little, and nothing is to be dropped. */
  direct: boolean
  signal: AbortSignal
  /** Counts windows that are durable as done. One call at a time. */
  settle: (windows: readonly CopyWindow[]) => Promise<void>
  /** Told of what must stop the copy. */
  fail: (error: unknown) => void
}

/**
 * Makes durable what windows have written, one flush after the other. A window is settled by a flush that began after it
 * was whole; the next flush does not wait for that. A flush that fails is never tried again: the kernel may have dropped
 * the pages, and would call the next one a success.
 */
export class Flusher {
  readonly #options: FlusherOptions
  #written: CopyWindow[] = []
  #flushing: Promise<void> | undefined
  #settling: Promise<void> = Promise.resolve()
  #early: Promise<void> = Promise.resolve()
  readonly #ending = new AbortController()
  #dirty = 0
  #waiting: Array<() => void> = []

  constructor (options: FlusherOptions) {
    this.#options = options
    options.signal.addEventListener('abort', () => { this.#letGo() }, { once: true })
  }

  /** Begins to flush again and again, also in the middle of windows, while `isHurried` and the page cache is in use. */
  start (isHurried: () => boolean): void {
    if (!this.#options.direct) this.#early = this.#flushEarly(isHurried)
  }

  /** Waits until that much more may be written to the page cache. What bypasses it is never more than a few requests. */
  async room (bytes: number, bytesPerSecond = 0): Promise<void> {
    const limit = this.#options.direct ? Infinity : Math.max(dirtyBytes, bytesPerSecond * dirtySeconds)
    while (this.#dirty > 0 && this.#dirty + bytes > limit && !this.#options.signal.aborted) {
      await new Promise<void>(resolve => { this.#waiting.push(resolve) })
    }
    this.#dirty += bytes
  }

  /** A window is whole. */
  add (window: CopyWindow): void {
    this.#written.push(window)
    this.#startFlush()
  }

  /** Resolves when all windows are settled, or the copy has failed. */
  async end (): Promise<void> {
    this.#ending.abort()
    while (this.#flushing !== undefined) await this.#flushing
    await Promise.all([this.#settling, this.#early])
  }

  async #flushEarly (isHurried: () => boolean): Promise<void> {
    const { signal } = this.#ending
    while (!signal.aborted && !this.#options.signal.aborted) {
      if (isHurried()) this.#startFlush('early')
      await this.#flushing
      await sleep(pauseMs, undefined, { signal }).catch(() => { /* that was the end */ })
    }
  }

  #startFlush (early?: 'early'): void {
    if (this.#flushing !== undefined || (this.#written.length === 0 && early === undefined)) return
    this.#flushing = this.#flush().catch(this.#options.fail).finally(() => {
      this.#flushing = undefined
      if (!this.#options.signal.aborted) this.#startFlush()
    })
  }

  async #flush (): Promise<void> {
    const { fd, image, direct } = this.#options
    const windows = this.#written
    this.#written = []
    try {
      await syncData(fd)
    } catch (error) {
      // where space is given out late (NFS, quotas), this is where it shows that there is none
      throw new AppError(flushCode(error), `What was written to ${image} could not be made durable: ${error instanceof Error ? error.message : String(error)}. What was done before is kept; mend the image when the storage is well.`, { cause: error })
    }
    this.#settleNext(windows)
    // Nobody reads a copy right after it was made, and the host has guests whose data is worth more in memory. It is
    // faster, too: pages that are used again cost less than ever new ones (npm run bench -- copy)
    if (!direct) await dropCached(fd).catch(() => { /* it was advice */ })
  }

  #settleNext (windows: readonly CopyWindow[]): void {
    if (windows.length === 0) return
    const { signal, settle, fail } = this.#options
    this.#settling = this.#settling.then(async () => {
      if (signal.aborted) return
      await settle(windows)
      this.#dirty -= windows.reduce((sum, { copyBytes }) => sum + copyBytes, 0)
      this.#letGo()
    }).catch(fail)
  }

  #letGo (): void {
    for (const go of this.#waiting.splice(0)) go()
  }
}
