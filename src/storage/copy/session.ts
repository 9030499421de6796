import { AppError } from '../../errors.ts'
import { isCutOff } from '../../system/errno.ts'
import type { Area } from '../area.ts'
import type { CopyTarget } from '../layout/copy-target.ts'
import type { Lease } from '../lease.ts'
import { patience } from '../patience.ts'
import { keyOf, parseRecord, readRecordText, recordText, wordsOf, writeRecord, type CopyRecord } from '../record.ts'
import { OwnTexts } from './own-texts.ts'
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
  readonly #texts: OwnTexts
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
    this.#texts = new OwnTexts(recordText(of.record))
  }

  /** The record as it was last written. */
  get record (): CopyRecord { return this.#record }

  /** Writes a changed record durably. Changes are made one after the other, each to what the one before left. */
  async checkpoint (change: (record: CopyRecord) => Partial<CopyRecord>): Promise<void> {
    const write = this.#writing.then(async () => {
      await this.assertOwnership()
      const next = { ...this.#record, ...change(this.#record), checkpointAt: new Date().toISOString() }
      this.#texts.add(recordText(next))
      await writeRecord(this.area.copies, next)
      this.#texts.settle(recordText(next))
      this.#record = next
    })
    this.#writing = write.catch(() => { /* told to whoever asked for this write */ })
    await write
  }

  /**
   * Makes sure that the copy is still ours. A host that was cut off and comes back would otherwise write over what its
   * successor has done: so before each window and each record write, the lock is taken again on the same descriptor,
   * and record and target are compared with what we have left. On a file system of this host alone nothing can be cut
   * off, and nothing is locked again; sanlock is asked all the same. On any other, what is not found is looked for again
   * before that is believed: one of our own checkpoints may just be taking its place (a FUSE file system then says
   * ENOENT, shown by a test).
   *
   * Throws `lease-lost` if another host has the copy, or may have it; `target-changed` if anybody has written its
   * record, or renamed, exchanged, linked or cut the file that it is written to.
   */
  async assertOwnership (): Promise<void> {
    this.#fenced?.throwIfAborted()
    const isHeld = (this.area.local && this.area.leasing === 'flock') || await this.lease.holds().catch(() => false)
    if (!isHeld) throw this.#lost('its lease is gone')
    await this.#assertRecord()
    const look = async () => await this.target.disturbance(this.#record, this.part)
    const change = await patience(this.area)(look, found => found === undefined)
      .catch((error: unknown) => {
        throw isCutOff(error) ? this.#lost('its target cannot be reached any more') : error
      })
    if (change !== undefined) throw this.#changed(change)
  }

  async #assertRecord (): Promise<void> {
    const { text, isOurs } = await this.#texts.isOurs(async () => await this.#findRecord())
    if (isOurs) return
    if (text === undefined) throw this.#lost('its record is gone')
    const { copyId, epoch } = this.#record
    const found = this.#parse(text)
    if (found !== undefined && (found.copyId !== copyId || found.epoch !== epoch)) {
      throw this.#lost(`host ${found.host.id} has continued it (epoch ${found.epoch})`)
    }
    throw this.#changed('its record was written by another program')
  }

  async #findRecord (): Promise<string | undefined> {
    const read = async () => await readRecordText(this.area.copies, keyOf(this.#record))
    return await patience(this.area)(read, found => found !== undefined).catch((error: unknown) => {
      if (isCutOff(error)) return undefined
      if (error instanceof AppError) throw this.#changed('its record was exchanged, or has another name, too')
      throw error
    })
  }

  #parse (text: string): CopyRecord | undefined {
    try {
      return parseRecord(text, this.#record.domain, keyOf(this.#record))
    } catch (error) {
      if (error instanceof AppError) return undefined
      throw error
    }
  }

  #lost (why: string): AppError {
    const copy = `The copy of ${wordsOf(this.#record)}`
    return new AppError('lease-lost', `${copy} is no longer this host's: ${why}. Nothing more was written.`)
  }

  #changed (what: string): AppError {
    const copy = `The copy of ${wordsOf(this.#record)} in domain ${this.area.id}`
    return new AppError('target-changed', `${copy} was ended, because ${what}. ` +
      'Nothing more was written. Find out who writes to the domain; the fixes of the domain tell how to go on.')
  }
}
