import { setTimeout as sleep } from 'node:timers/promises'
import type { Progress } from '../../api/task.ts'
import type { CopyMeasure, CopySettings } from '../protocol.ts'
import { subtract, total, union, type Ranges } from '../ranges.ts'
import { convertWindow } from './convert.ts'
import { Flusher } from './flusher.ts'
import { Plan } from './plan.ts'
import { Rate } from './rate.ts'
import type { Session } from './session.ts'
import { assertRoom, stillNeeded } from './space.ts'
import type { Work } from './survey.ts'
import type { CopyWindow } from './windows.ts'

const MiB = 1024 * 1024

const maxWindowBytes = 4096 * MiB
const firstWindowBytes = 64 * MiB
/** What qemu-img moves at the end of a run without waiting for its limit. */
const unpacedBytes = 2 * MiB

interface CopierOptions {
  settings: CopySettings
  bandwidth: number | null
  expectedBytesPerSecond: number | undefined
  /** Of the target. */
  clusterBytes: number
  /** The target can be written past the page cache. */
  direct: boolean
  work: Work
  /** Bytes that are left free on the file system of the target. */
  reserveBytes: number
  /** Called with the bytes that the target is still going to take up. */
  settled?: (bytes: number) => void
}

/**
 * Copies the windows of a plan until nothing is left.
 *
 * Three things overlap: lanes copy windows, flushes follow each other and make durable what is written, and only then
 * a checkpoint counts the windows that were whole before their flush as done. Every window stands in `begun` on the
 * storage before it starts, so that a crash never leaves a half-written range that is taken for an untouched one.
 */
export class Copier {
  readonly #session: Session
  readonly #work: Work
  readonly #bytesMovedBefore: number
  readonly #reserveBytes: number
  readonly #settledSpace: (bytes: number) => void
  readonly #settings: CopySettings
  readonly #plan: Plan
  readonly #align: number
  readonly #lanes: number
  readonly #direct: boolean
  readonly #report: (progress: Progress) => void
  readonly #measure: (measure: CopyMeasure) => void
  readonly #rate = new Rate()
  /** How fast windows are settled, the zeros in them included: where all is to be copied anew, most of them may have nothing else. */
  readonly #pacing = new Rate()
  readonly #failed = new AbortController()
  readonly #signal: AbortSignal
  #bandwidth: number | null
  #retuned = new AbortController()
  #windowBytes: number
  /** Windows named in the record, to be started. */
  #named: CopyWindow[] = []
  #naming: Promise<void> | undefined
  #exhausted = false
  readonly #flusher: Flusher
  /** Data of the windows that are being copied. */
  #inFlightBytes = 0
  /** Bytes of data that this run has made durable. */
  #movedBytes = 0
  /** Bytes of the disk that this run has settled. */
  #settledBytes = 0

  constructor (session: Session, { settings, bandwidth, expectedBytesPerSecond, clusterBytes, direct, work, reserveBytes, settled = () => {} }: CopierOptions, report: (progress: Progress) => void, measure: (measure: CopyMeasure) => void = () => {}) {
    const { record, source } = session
    this.#session = session
    this.#work = work
    this.#bytesMovedBefore = record.bytesMoved
    this.#reserveBytes = reserveBytes
    this.#settledSpace = settled
    this.#settings = settings
    this.#bandwidth = bandwidth
    this.#align = Math.max(clusterBytes, MiB)
    this.#report = report
    this.#measure = measure
    // past the page cache, if that is possible: no guest loses its data there to a copy, and nothing is written late
    this.#direct = direct
    // a second qemu-img on a qcow2 target is refused by qemu's own lock
    this.#lanes = record.format === 'raw' ? settings.parallelWindows : 1
    // a run before this one, or another copy, has found out how fast the storage is
    const expected = expectedBytesPerSecond === undefined ? firstWindowBytes : expectedBytesPerSecond * settings.windowSeconds / this.#lanes
    this.#windowBytes = this.#clampWindow(record.windowBytes || expected)
    this.#signal = AbortSignal.any([session.signal, this.#failed.signal])
    this.#flusher = new Flusher({
      fd: session.part.fd,
      image: record.image,
      direct,
      signal: this.#signal,
      settle: async windows => { await this.#settle(windows) },
      fail: error => { this.#fail(error) }
    })
    this.#plan = new Plan({ source, size: record.virtualSize, align: this.#align, lanes: this.#lanes, done: record.done, begun: record.begun, known: work.known, signal: this.#signal })
  }

  /** qemu-img limits each process; the limit is for the whole copy. */
  get #laneBandwidth (): number | undefined {
    return this.#bandwidth === null ? undefined : Math.max(1, Math.floor(this.#bandwidth / this.#lanes))
  }

  get settledBytes (): number { return this.#settledBytes }
  get movedBytes (): number { return this.#movedBytes }

  /** Takes effect with the next window. */
  setBandwidth (bandwidth: number | null): void {
    this.#bandwidth = bandwidth
    this.#retuned.abort()
    this.#retuned = new AbortController()
    this.#windowBytes = this.#clampWindow(this.#laneBandwidth === undefined ? firstWindowBytes : this.#laneBandwidth * this.#settings.windowSeconds)
    this.#tell()
  }

  /** Copies everything. Rejects with the first error, after every program it started is gone. */
  async copy (): Promise<void> {
    this.#tell()
    // a copy that is told to be slow has no hurry to write either
    this.#flusher.start(() => this.#bandwidth === null)
    await Promise.all(Array.from({ length: this.#lanes }, async () => {
      await this.#lane().catch((error: unknown) => { this.#fail(error) })
    }))
    await this.#flusher.end()
    await Promise.allSettled([this.#naming])
    this.#session.signal.throwIfAborted()
    this.#failed.signal.throwIfAborted()
    await this.#settle([])
    const { record } = this.#session
    const left = record.virtualSize - total(record.done)
    // never to be seen; if it is, the image must not get its name
    if (left !== 0) throw new Error(`${left} bytes of ${record.image} were left out`)
  }

  /** The first error stops everything and is the one that is told. */
  #fail (error: unknown): void {
    this.#failed.abort(error)
  }

  async #lane (): Promise<void> {
    for (;;) {
      this.#signal.throwIfAborted()
      const window = await this.#nextNamed()
      if (window === undefined) break
      await this.#flusher.room(window.copyBytes, this.#rate.bytesPerSecond)
      this.#signal.throwIfAborted()
      const isLast = this.#exhausted && this.#naming === undefined && this.#named.length === 0
      // after the last one, there is nothing to wait for: the copy would look complete, and not end
      if (isLast) await this.#pace(Math.min(window.dataBytes, unpacedBytes), performance.now())
      await this.#session.assertOwnership()
      const startedAt = performance.now()
      await this.#withRoom(window.dataBytes, async () => { await this.#copyWindow(window) })
      this.#measure({ windowSeconds: (performance.now() - startedAt) / 1000 })
      this.#flusher.add(window)
      if (!isLast) await this.#pace(window.dataBytes, startedAt)
    }
  }

  /** Copies a window if the file system has room for it and for those that are being copied. */
  async #withRoom (dataBytes: number, copy: () => Promise<void>): Promise<void> {
    const { area, part, record } = this.#session
    this.#inFlightBytes += dataBytes
    try {
      const left = this.#work.ignoreSpace === true ? 0 : await stillNeeded({ part, bytesNeeded: this.#work.bytesNeeded })
      await assertRoom(area, { image: record.image, bytes: Math.min(this.#inFlightBytes, left), reserveBytes: this.#reserveBytes })
      await copy()
    } finally {
      this.#inFlightBytes -= dataBytes
    }
  }

  async #nextNamed (): Promise<CopyWindow | undefined> {
    while (this.#named.length === 0) {
      // windows that are just being written into the record are still to come, also when the plan has no more
      if (this.#exhausted && this.#naming === undefined) return undefined
      await this.#nameAhead()
    }
    const window = this.#named.shift()
    // ahead of need, so that no lane waits for a record to be written
    if (this.#named.length < this.#lanes && !this.#exhausted) this.#nameAhead().catch((error: unknown) => { this.#fail(error) })
    return window
  }

  #nameAhead (): Promise<void> {
    this.#naming ??= this.#name().finally(() => { this.#naming = undefined })
    return this.#naming
  }

  /** Plans the next windows and names them in the record. */
  async #name (): Promise<void> {
    const windows: CopyWindow[] = []
    while (!this.#exhausted && windows.length <= this.#lanes) {
      const window = await this.#plan.next(this.#windowBytes)
      if (window === undefined) this.#exhausted = true
      else windows.push(window)
    }
    if (windows.length === 0) return
    await this.#session.checkpoint(record => ({ begun: mutable(union(record.begun, windows.flatMap(({ writes }) => writes))) }))
    this.#named.push(...windows)
  }

  /** Copies a window, again from its start if it was begun under a limit so low that it would go on for long after that was lifted. */
  async #copyWindow (window: CopyWindow): Promise<void> {
    const limit = this.#laneBandwidth
    const isSlow = limit !== undefined && window.dataBytes / limit > this.#settings.windowSeconds * 2
    const retuned = this.#retuned.signal
    if (!isSlow) return await this.#convert(window, this.#signal)
    try {
      await this.#convert(window, AbortSignal.any([this.#signal, retuned]))
    } catch (error) {
      if (this.#signal.aborted || !retuned.aborted) throw error
      await this.#session.assertOwnership()
      // piece by piece: the gaps between them were not touched
      for (const [start, end] of window.writes) await this.#copyWindow({ ...window, start, end, fresh: false, writes: [[start, end]] })
    }
  }

  async #convert (window: CopyWindow, signal: AbortSignal): Promise<void> {
    await convertWindow(this.#session, window, { direct: this.#direct, lanes: this.#lanes, bytesPerSecond: this.#laneBandwidth }, signal)
  }

  /**
   * Waits until the window has taken as long as the limit says. qemu-img alone does not: it never waits after its last
   * requests (2 MiB each), so a window of 8 MiB ran a quarter too fast, and one of 2 MiB without any limit (qemu 7.2).
   */
  async #pace (bytes: number, startedAt: number): Promise<void> {
    for (;;) {
      this.#signal.throwIfAborted()
      const limit = this.#laneBandwidth
      const leftMs = limit === undefined ? 0 : bytes / limit * 1000 - (performance.now() - startedAt)
      if (leftMs <= 0) return
      // a changed limit ends the wait, too; longer waits than a timer can do are made again
      await sleep(Math.min(leftMs, 2 ** 31 - 1), undefined, { signal: AbortSignal.any([this.#signal, this.#retuned.signal]) }).catch(() => { /* looks again */ })
    }
  }

  /**
   * Sizes the next windows after what was made durable in the time, not after how fast qemu-img fills the page cache: a
   * window is what a crash costs, and how old a checkpoint may be.
   */
  #adapt (): void {
    const { bytesPerSecond } = this.#pacing
    if (bytesPerSecond !== undefined) this.#windowBytes = this.#clampWindow(bytesPerSecond * this.#settings.windowSeconds / this.#lanes)
  }

  #clampWindow (bytes: number): number {
    const slowest = (this.#laneBandwidth ?? Infinity) * this.#settings.windowSeconds
    const wanted = Math.min(bytes, maxWindowBytes, slowest)
    return Math.max(this.#align, Math.floor(wanted / this.#align) * this.#align)
  }

  /** Counts windows, and zeros found on the way, as done. */
  async #settle (windows: readonly CopyWindow[]): Promise<void> {
    const moved = windows.reduce((sum, { dataBytes }) => sum + dataBytes, 0)
    const zero = this.#plan.takeZero()
    if (zero.length === 0 && windows.length === 0) return
    if (windows.length > 0) {
      this.#rate.add(moved)
      this.#pacing.add(windows.reduce((sum, { copyBytes }) => sum + copyBytes, 0))
      this.#adapt()
    }
    const before = total(this.#session.record.done)
    await this.#session.checkpoint(record => {
      const done = union(union(record.done, zero), windows.map(({ start, end }) => [start, end]))
      return {
        done: mutable(done),
        // what is done is never begun again, and the record stays small
        begun: mutable(subtract(record.begun, done)),
        bytesMoved: record.bytesMoved + moved,
        windowBytes: this.#windowBytes,
        ...(this.#rate.bytesPerSecond !== undefined && { bytesPerSecond: this.#rate.bytesPerSecond })
      }
    })
    this.#movedBytes += moved
    this.#settledSpace(await stillNeeded({ part: this.#session.part, bytesNeeded: this.#work.bytesNeeded }))
    this.#measure({ movedBytes: moved })
    // windows reach over gaps of zeros that were counted before
    this.#settledBytes += total(this.#session.record.done) - before
    this.#tell()
  }

  #tell (): void {
    const { record } = this.#session
    const bytesDone = total(record.done)
    const measured = this.#rate.bytesPerSecond
    // the first windows under a limit are over before it holds them back
    const bytesPerSecond = measured === undefined ? undefined : Math.min(measured, this.#bandwidth ?? Infinity)
    const bytesMoved = record.bytesMoved
    // what was begun before a crash is moved again, and the rest of a fragmented source was only estimated
    const isDone = bytesDone === record.virtualSize
    const bytesToMove = isDone ? bytesMoved : Math.max(this.#bytesMovedBefore + this.#work.bytesToMove, bytesMoved)
    const left = bytesToMove - bytesMoved
    this.#report({
      phase: 'copying',
      bytesTotal: record.virtualSize,
      bytesDone,
      bytesToMove,
      bytesMoved,
      ...(bytesPerSecond !== undefined && { bytesPerSecond }),
      ...(bytesPerSecond !== undefined && bytesPerSecond > 0 && { etaSeconds: Math.round(left / bytesPerSecond) }),
      ...(this.#bandwidth !== null && { bandwidth: this.#bandwidth })
    })
  }
}

/** As the record has ranges. */
function mutable (ranges: Ranges): Array<[number, number]> {
  return ranges.map(([start, end]) => [start, end])
}
