import { AppError } from '../../errors.ts'
import type { Area } from '../area.ts'
import { isCutOff } from '../../system/errno.ts'
import type { CopyTarget } from '../layout/copy-target.ts'
import type { Lease } from '../lease.ts'
import { patience } from '../patience.ts'
import { keyOf, readRecord, writeRecord, type CopyRecord } from '../record.ts'
import type { Part } from './part.ts'
import type { Source } from './source.ts'

/** A copy that this process holds the lease of, from the accept step to the end. */
export class Session {
  readonly area: Area
  readonly target: CopyTarget
  readonly lease: Lease
  readonly source: Source
  readonly part: Part
  /** Aborted by a cancel, or by the first error of any window. */
  readonly signal: AbortSignal
  /** Aborted when leases were found to keep nobody away. */
  readonly #fenced: AbortSignal | undefined
  #record: CopyRecord
  #writing: Promise<void> = Promise.resolve()

  constructor (of: { area: Area, target: CopyTarget, lease: Lease, source: Source, part: Part, record: CopyRecord, signal: AbortSignal, fenced?: AbortSignal }) {
    this.area = of.area
    this.target = of.target
    this.lease = of.lease
    this.source = of.source
    this.part = of.part
    this.signal = of.signal
    this.#fenced = of.fenced
    this.#record = of.record
  }

  /** The record as it was last written. */
  get record (): CopyRecord { return this.#record }

  /** Writes a changed record durably. Changes are made one after the other, each to what the one before left. */
  async checkpoint (change: (record: CopyRecord) => Partial<CopyRecord>): Promise<void> {
    const write = this.#writing.then(async () => {
      await this.assertOwnership()
      const next = { ...this.#record, ...change(this.#record), checkpointAt: new Date().toISOString() }
      await writeRecord(this.area.copies, next)
      this.#record = next
    })
    this.#writing = write.catch(() => { /* told to whoever asked for this write */ })
    await write
  }

  /**
   * Makes sure that the copy is still ours. A host that was cut off and comes back would otherwise write over what its
   * successor has done: so before each window and each record write, the lock is taken again on the same descriptor
   * and the record is compared. On a file system of this host alone nothing can be cut off, and nothing is locked again;
   * sanlock is asked all the same. On any other, a record that is not found is looked for again before that is believed: one of
   * our own checkpoints may just be taking its place (a FUSE file system then says ENOENT, shown by a test).
   */
  async assertOwnership (): Promise<void> {
    this.#fenced?.throwIfAborted()
    const { image, domain, copyId, epoch } = this.#record
    const found = (this.area.local && this.area.leasing === 'flock') || await this.lease.holds().catch(() => false)
      ? await patience(this.area)(async () => await readRecord(this.area.copies, domain, keyOf(this.#record)), found => found !== undefined)
        .catch((error: unknown) => { if (!isCutOff(error)) throw error })
      : undefined
    if (found?.copyId !== copyId || found.epoch !== epoch) {
      throw new AppError('lease-lost', `The copy of ${image} is no longer this host's: ${found === undefined ? 'its lease or record is gone' : `host ${found.host.id} has continued it (epoch ${found.epoch})`}. Nothing more was written.`)
    }
  }
}
