import { randomUUID } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { Value } from '@sinclair/typebox/value'
import { LockStatus, type DomainStatus, type Layout } from '../api/domain.ts'
import type { Format } from '../api/format.ts'
import type { BrokenImage, Copy, ImageEntry, ImageStatus } from '../api/image.ts'
import type { CreateResult, DeleteResult, ForgetResult } from '../api/kinds.ts'
import { AppError, isErrorCode } from '../errors.ts'
import { programFolder } from '../location.ts'
import { answers, type Answer } from './answers.ts'
import type { DomainPlace } from './area.ts'
import { Child } from './child.ts'
import type { Outcome } from './outcome.ts'
import { Locks } from './locks.ts'
import type { AgentMark, CopiesQuery, CopiesNeedQuery, CreatePreview, CreateRequest, CreateShape, DeleteRequest, DomainAgentFunctions, DomainFunctions, ForgetRequest, NeededSource, Page, SourceState } from './protocol.ts'
import type { Named, SourceFile } from './record.ts'
import { Snapshots } from './snapshot.ts'
import { judgeBroken, judgeStatus, type FindDomain } from './sources.ts'

export interface DomainOptions extends DomainPlace {
  layout: Layout
  /** Make the domain in an empty directory. */
  create: boolean
  /** Make a sample image in it if it has none. */
  sample: boolean
  /** Bytes per second that copies from and to it may have together. */
  bandwidth?: number | undefined
  /** The number of this host in its lockspace. */
  sanlockHostId?: number | undefined
  /** As whom the agent shows itself in it. */
  agent: AgentMark
  /** How long the records of complete copies are kept. */
  keepDoneDays: number
}

/** A domain as the configuration or a look at the mounts has it. */
export type FoundDomain = Omit<DomainOptions, 'agent' | 'keepDoneDays' | 'sanlockHostId'>

interface Log {
  info (fields: object, message: string): void
  warn (fields: object, message: string): void
  error (fields: object, message: string): void
}

type ReadObserver = (took: { seconds: number, late: boolean }) => void
type DomainChild = Child<DomainFunctions, Omit<DomainAgentFunctions, 'ready'>>
type Remote = Pick<DomainFunctions, keyof DomainFunctions>

/** A read that takes longer is answered with 504. */
const readDeadlineMs = 5000
/** How long a read waits for the process of its domain: on a busy host, many of them take a while to start. */
const startWithinMs = 30_000
/** What is told of one domain does not wait longer for another one. */
const sourceDeadlineMs = 3000
const snapshotMs = 1000
/** Lists look at 16 files at the same time: where each look takes a millisecond, that makes a page of them quick. */
const ioThreads = 16
/** How often a domain is looked at by itself, for those who are told what was seen last. */
const lookEveryMs = 5000
const sweepIntervalMs = 60 * 60 * 1000
/** How long a change waits for its process to be gone, with its leases. */
const goneWithinMs = 2000
/** How long it takes at most until a lost lockspace is seen to be lost: sanlock looks every second. */
const lostWithinMs = 2500
/** Reads that got no answer in time and still have none. With so many, asking for more only makes the heap higher. */
const maxLate = 4

/** One storage domain, as the agent sees it: a child process that does all its file access, and deadlines. */
export class Domain {
  readonly place: DomainPlace
  readonly layout: Layout
  /** Resolves when the domain was prepared for the first time, or could not be. */
  readonly prepared: Promise<void>
  #settlePrepared: () => void = () => {}
  /** Resolves when the storage was prepared for the first time, or did not answer for long. Reads wait for it. */
  readonly #looked: Promise<void>
  #isLookedAt = false
  #settleLooked: () => void = () => {}
  readonly #processes = new EventEmitter().setMaxListeners(0)
  #last: DomainStatus
  readonly #options: DomainOptions
  readonly #log: Log
  readonly #observe: ReadObserver
  readonly #findDomain: FindDomain
  readonly #statuses = new Snapshots<ImageStatus>(snapshotMs)
  readonly #descriptions = new Snapshots<DomainStatus>(snapshotMs)
  readonly #copies = new Snapshots<Copy[]>(snapshotMs, { oneAtATime: true })
  readonly #fixes = new Snapshots<BrokenImage[]>(snapshotMs, { oneAtATime: true })
  readonly #onAccepted = new Map<string, () => void>()
  /** What starts the deadlines of scans again that are under way. */
  readonly #scans = new Set<() => void>()
  /** What its process has found out about locks there. */
  readonly locks: Locks
  #child: DomainChild | undefined
  #late = 0
  #stopped = false
  #leaving = false
  #sweeper: NodeJS.Timeout | undefined
  #looker: NodeJS.Timeout | undefined

  /**
   * @param observe told how long each read took, and whether it was answered before its deadline.
   * @param findDomain finds the domains that sources of copies are in.
   */
  constructor (options: DomainOptions, log: Log, observe: ReadObserver = () => {}, findDomain: FindDomain = () => undefined) {
    this.#observe = observe
    this.#findDomain = findDomain
    const { id, path, layout, owner, mode, leases } = options
    this.place = { id, path, layout, ...(owner !== undefined && { owner }), ...(mode !== undefined && { mode }), ...(leases !== undefined && { leases }) }
    this.layout = options.layout
    this.#options = options
    this.#log = log
    this.locks = new Locks(options.id, { enforced: options.leases !== 'sanlock' })
    this.locks.onChange(() => { this.#tellLocks() })
    this.prepared = new Promise(resolve => { this.#settlePrepared = resolve })
    this.#looked = new Promise(resolve => {
      this.#settleLooked = () => {
        this.#isLookedAt = true
        resolve()
      }
    })
    this.#last = this.#starting()
  }

  get id (): string { return this.place.id }
  /** How many reads are past their deadline and still have no answer. */
  get late (): number { return this.#late }
  get bandwidth (): number | undefined { return this.#options.bandwidth }

  /**
   * Starts the domain's process. It is started again whenever it dies, with a growing pause. Resolves when the process
   * listens, or is gone.
   */
  async start (): Promise<void> {
    const { ready } = this.#startProcess()
    void this.#keepAlive()
    this.#sweeper = setInterval(() => { void this.#sweep() }, sweepIntervalMs).unref()
    this.#looker = setInterval(() => { void this.#look() }, lookEveryMs).unref()
    await ready
  }

  /** Ends the process without waiting for it: a storage that hangs must not keep the agent from stopping. */
  stop (): void {
    this.#stopped = true
    clearInterval(this.#sweeper)
    clearInterval(this.#looker)
    this.#child?.end()
  }

  /** It is no longer wanted, but tasks are at work on it. */
  setLeaving (leaving: boolean): void {
    this.#leaving = leaving
  }

  /** State, size and free space; never throws. `starting` before the first look. */
  async status (): Promise<DomainStatus> {
    const status = this.#isLookedAt ? await this.#look() : this.#last
    return this.#leaving ? { ...status, leaving: true } : status
  }

  /** The status as it was seen last, without waiting for the storage. Has it looked at again. */
  lastStatus (): DomainStatus {
    void this.#look()
    return this.#leaving ? { ...this.#last, leaving: true } : this.#last
  }

  /** Never throws. Waits for the first look. */
  async #look (since?: number): Promise<DomainStatus> {
    return await this.#descriptions.get('', async () => {
      await this.#looked
      const base = this.#base()
      try {
        const description = await this.#read(answers.description, remote => remote.describe())
        this.#last = { ...base, state: 'available', ...description, ...this.locks.describe(description.warnings) }
      } catch (error) {
        const code = error instanceof AppError ? error.code : 'storage-failed'
        const state = code === 'storage-unresponsive' ? 'unresponsive' : 'unavailable'
        this.#last = { ...base, state, code, detail: error instanceof Error ? error.message : String(error) }
      }
      return this.#last
    }, since)
  }

  #base (): Pick<DomainStatus, 'domain' | 'layout' | 'path' | 'observedAt'> {
    return { domain: this.id, layout: this.layout, path: this.place.path, observedAt: new Date().toISOString() }
  }

  #starting (): DomainStatus {
    return { ...this.#base(), state: 'starting', detail: `The process of domain ${this.id} has not looked at the storage yet.` }
  }

  /**
   * Throws `storage-unresponsive` if the storage does not answer, `domain-unavailable` if its leases are not to be had. Asked before a command is begun: it is refused then, and
   * nothing was changed, where one that hangs half-way leaves everybody in doubt. Throws what `Locks.assertWork` does, too.
   *
   * @param waiting called while it is waited for whether locks work there.
   */
  async assertAnswers (waiting: () => void = () => {}): Promise<void> {
    const { state, code, detail, leases } = await this.#currentStatus()
    if (state === 'unresponsive') throw new AppError('storage-unresponsive', detail ?? `Domain ${this.id} does not answer.`)
    if (state === 'unavailable' && this.locks.refusal === undefined) {
      // nor is it known whether its locks work
      throw new AppError(code !== undefined && isErrorCode(code) ? code : 'domain-unavailable', detail ?? `Domain ${this.id} is not available.`)
    }
    await this.locks.assertWork(waiting)
    if (leases !== undefined && leases.state !== 'ready') throw new AppError('domain-unavailable', leases.detail ?? `The leases of domain ${this.id} are not ready.`)
  }

  /** The status, looked at again where it stands against a command: what was mounted a moment ago is used. */
  async #currentStatus (): Promise<DomainStatus> {
    const askedAt = performance.now()
    const status = await this.#look()
    const refuses = status.state === 'unavailable' || (status.leases !== undefined && status.leases.state !== 'ready')
    return refuses ? await this.#look(askedAt) : status
  }

  /**
   * What the death of a process that sanlock knew was: sanlock ends it when this host loses the lockspace, and it ends itself
   * when the daemon is gone. Returns `lease-lost` then, and otherwise the error as it is.
   */
  async explainDeath (error: unknown): Promise<unknown> {
    if (!this.#isSanlock || !(error instanceof AppError) || error.code !== 'storage-process-died') return error
    // the lockspace goes a moment after the last process that used it
    for (const end = performance.now() + lostWithinMs; performance.now() < end;) {
      this.#descriptions.forget()
      const { leases } = await this.status()
      if (leases !== undefined && leases.state !== 'ready') return new AppError('lease-lost', `This host has lost its leases in domain ${this.id}, so that its process was ended. Nothing more is written there; what is done of a copy is kept. ${leases.detail ?? ''}`.trim(), { cause: error, changed: true })
      await sleep(100, undefined, { ref: false })
    }
    return error
  }

  async images (after: string, limit: number): Promise<ImageEntry[]> {
    return await this.#read(answers.images, remote => remote.images(after, limit))
  }

  async image (image: string, format: Format | undefined): Promise<ImageStatus> {
    // a space can be in neither part
    return await this.#statuses.get(`${format ?? ''}/${image}`, async () => await judgeStatus(await this.#read(answers.image, remote => remote.image(image, format)), this, this.#findDomain))
  }

  /** A page of the copy records, by name. */
  async copies (query: CopiesQuery): Promise<Copy[]> {
    return await this.#copies.get(JSON.stringify(query), async () => await this.#scan(answers.copies, remote => remote.copies(query)))
  }

  /** A page of what is broken, by name. */
  async fixes (page: Page): Promise<BrokenImage[]> {
    return await this.#fixes.get(JSON.stringify(page), async () => await judgeBroken(await this.#scan(answers.fixes, remote => remote.fixes(page)), this, this.#findDomain))
  }

  /** For each unfinished copy here, the source that it still has to read. */
  async neededSources (copies: readonly Named[]): Promise<Array<NeededSource | null>> {
    return await this.#read(answers.neededSources, remote => remote.neededSources(copies))
  }

  /** For each source here, given by its files as a record has them, what has become of it. */
  async sourceStates (sources: ReadonlyArray<readonly SourceFile[]>): Promise<SourceState[]> {
    return await this.#read(answers.sourceStates, remote => remote.sourceStates(sources), sourceDeadlineMs)
  }

  /** Bytes that running copies of other hosts are still going to take up here. */
  async copiesNeed (query: CopiesNeedQuery): Promise<number> {
    return await this.#read(answers.bytes, remote => remote.copiesNeed(query))
  }

  /** What a new image would take up. Throws the refusal for want of space. */
  async creatable (request: CreateShape): Promise<CreatePreview> {
    return await this.#read(answers.creatable, remote => remote.creatable(request))
  }

  async create (request: CreateRequest): Promise<CreateResult> {
    try {
      return await this.#change(answers.created, remote => remote.create(request))
    } finally {
      this.changed()
    }
  }

  /** Removes a copy record and leaves the image. */
  async forget (request: ForgetRequest): Promise<ForgetResult> {
    try {
      return await this.#change(answers.forgotten, remote => remote.forget(request))
    } finally {
      this.changed()
    }
  }

  /** `accepted` is called when the intent is durable. */
  async delete (request: DeleteRequest, accepted: () => void): Promise<DeleteResult> {
    const call = randomUUID()
    this.#onAccepted.set(call, accepted)
    try {
      return await this.#change(answers.deleted, remote => remote.delete({ ...request, call }))
    } finally {
      this.#onAccepted.delete(call)
      this.changed()
    }
  }

  /** Something on the storage was changed: the next read looks anew. */
  changed (): void {
    for (const snapshots of [this.#statuses, this.#descriptions, this.#copies, this.#fixes]) snapshots.forget()
  }

  async #keepAlive (): Promise<void> {
    for (let pauseMs = 100; !this.#stopped; pauseMs = Math.min(pauseMs * 2, 30_000)) {
      const startedAt = performance.now()
      await (this.#child ?? this.#startProcess()).gone
      this.#child = undefined
      if (this.#stopped) return
      this.#log.error({ domain: this.id }, `the process of domain ${this.id} died; starting another`)
      this.#last = this.#starting()
      if (performance.now() - startedAt > 60_000) pauseMs = 100
      await sleep(pauseMs, undefined, { ref: false })
    }
  }

  #startProcess (): DomainChild {
    const child = this.#fork(false)
    this.#child = child
    this.locks.forget()
    this.#late = 0
    void this.#prepare(child)
    this.#processes.emit('started')
    return child
  }

  async #prepare (child: DomainChild): Promise<void> {
    const { create, sample } = this.#options
    // a storage that hangs is unresponsive, not starting for ever
    void child.ready.then(async () => { await sleep(readDeadlineMs, undefined, { ref: false }) }).then(() => { this.#settleLooked() })
    try {
      const { sampleMade } = await child.call(`Domain ${this.id}`, answers.prepared, remote => remote.prepare({ place: this.place, create, sample, agent: this.#options.agent, ...(this.#isSanlock && { lockspace: { hostId: this.#options.sanlockHostId } }) }))
      this.#log.info({ domain: this.id, path: this.place.path }, `domain ${this.id} is ready`)
      if (sampleMade) this.#log.info({ domain: this.id }, 'made sample.raw, so that there is something to copy')
      const { warnings = [] } = await child.call(`Domain ${this.id}`, answers.description, remote => remote.describe(), readDeadlineMs)
      for (const warning of warnings) this.#log.warn({ domain: this.id, path: this.place.path }, warning)
    } catch (error) {
      if (!this.#stopped) this.#log.warn({ domain: this.id, err: error }, `domain ${this.id} is not available`)
    }
    this.changed()
    this.#settleLooked()
    await this.#look()
    this.#settlePrepared()
  }

  async #sweep (): Promise<void> {
    try {
      const { keepDoneDays } = this.#options
      const { parts, records } = await this.#scan(answers.swept, remote => remote.sweep({ keepDoneDays }))
      if (records > 0) this.#log.info({ domain: this.id, records }, `removed ${records} records of copies that were complete for ${keepDoneDays} days`)
      if (parts.length > 0) this.#log.warn({ domain: this.id, parts }, 'removed parts that no copy record speaks of')
    } catch (error) {
      this.#log.warn({ domain: this.id, err: error }, 'could not look for what is of no use any more')
    }
  }

  /** A read of many files: it may take long, as long as it gets on. */
  async #scan<T> (answer: Answer<T>, call: (remote: Remote) => Promise<Outcome<T>>): Promise<T> {
    return await this.#read(answer, call, readDeadlineMs, this.#scans)
  }

  async #read<T> (answer: Answer<T>, call: (remote: Remote) => Promise<Outcome<T>>, deadlineMs = readDeadlineMs, extensions?: Set<() => void>): Promise<T> {
    if (!this.#isLookedAt) await Promise.race([this.#looked, sleep(startWithinMs, undefined, { ref: false })])
    const child = await this.#running()
    if (this.#late >= maxLate) throw new AppError('storage-unresponsive', `Domain ${this.id} does not answer; ${this.#late} reads are waiting for it. When it answers again, so does this.`)
    let late = false
    const startedAt = performance.now()
    const settle = () => { if (late && this.#child === child) this.#late-- }
    try {
      return await child.call(`Domain ${this.id}`, answer, async remote => await call(remote).finally(settle), deadlineMs, extensions)
    } catch (error) {
      if (error instanceof AppError && error.code === 'storage-unresponsive') {
        late = true
        this.#late++
      }
      throw error
    } finally {
      this.#observe({ seconds: (performance.now() - startedAt) / 1000, late })
    }
  }

  /** A change has no deadline of its own: its task has one for the accept step. */
  async #change<T> (answer: Answer<T>, call: (remote: Remote) => Promise<Outcome<T>>): Promise<T> {
    return this.#isSanlock ? await this.#underSanlock(answer, call) : await (await this.#running()).call(`Domain ${this.id}`, answer, call)
  }

  get #isSanlock (): boolean { return this.#options.leases === 'sanlock' }

  /**
   * A change that needs leases of sanlock is made by a process of its own: sanlock ends it when this host loses them, and
   * the domain is read on meanwhile.
   */
  async #underSanlock<T> (answer: Answer<T>, call: (remote: Remote) => Promise<Outcome<T>>): Promise<T> {
    const what = `Domain ${this.id}`
    const child = this.#fork(true)
    try {
      await child.call(what, answers.prepared, remote => remote.prepare({ place: this.place, create: false, sample: false }))
      return await child.call(what, answer, call)
    } catch (error) {
      throw await this.explainDeath(error)
    } finally {
      child.end()
      await Promise.race([child.gone, sleep(goneWithinMs, undefined, { ref: false })])
    }
  }

  #fork (registered: boolean): DomainChild {
    const local = {
      accepted: (call: string) => { this.#onAccepted.get(call)?.() },
      progressed: () => { for (const extend of this.#scans) extend() },
      // what it found in files of other hosts goes on to every caller
      judged: (status: unknown) => { if (!registered && Value.Check(LockStatus, status)) this.locks.set(status) }
    }
    return new Child(new URL('storage/domain/main', programFolder), local, { registered, shown: [this.id], threads: ioThreads })
  }

  /** What has changed about its locks is in the next status, and in the log. */
  #tellLocks (): void {
    this.#descriptions.forget()
    const { state, problems = [] } = this.locks.status ?? {}
    for (const { code, detail } of problems) {
      this.#log[code === 'host-id-duplicate' ? 'warn' : 'error']({ domain: this.id, path: this.place.path, code }, detail)
    }
    if (problems.length === 0 && state !== undefined) this.#log.info({ domain: this.id, state }, `domain ${this.id}: locks are ${state}`)
  }

  /** Its process. Waits for the next one after one has died. Throws `domain-unavailable` when that takes too long. */
  async #running (): Promise<DomainChild> {
    if (this.#child?.alive !== true && !this.#stopped) {
      const signal = AbortSignal.timeout(startWithinMs)
      await once(this.#processes, 'started', { signal }).catch(() => { /* it takes too long, and the error below says so */ })
    }
    if (this.#child?.alive === true) return this.#child
    throw new AppError('domain-unavailable', `The process of domain ${this.id} is being started. Try again in a moment.`)
  }
}
