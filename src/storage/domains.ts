import type { Layout } from '../api/domain.ts'
import { AppError } from '../errors.ts'
import type { Domain, DomainOptions } from './attached-domain.ts'
import type { DomainPlace } from './area.ts'

interface Attached {
  domain: Domain
  options: DomainOptions
  /** Tasks that are at work on it. */
  uses: number
  /** It goes when the last of them has ended; what is to take its place, if anything. */
  leaving?: { next?: DomainOptions } | undefined
}

/** Processes of domains that are loading at the same time. */
const maxStarting = 4

/** The domains this agent works on. They come and go with its configuration. */
export class Domains {
  readonly #make: (options: DomainOptions) => Domain
  readonly #attached = new Map<string, Attached>()
  /** Those whose processes are still to be started. */
  readonly #toStart: Domain[] = []
  #startingNow = 0
  #started = false

  constructor (make: (options: DomainOptions) => Domain, options: readonly DomainOptions[]) {
    this.#make = make
    for (const one of options) this.#attach(one)
  }

  /** A few at a time: a process that loads keeps a core busy, and whoever listens must answer meanwhile. */
  start (): void {
    this.#started = true
    for (const { domain } of this.#attached.values()) this.#start(domain)
  }

  stop (): void {
    this.#started = false
    this.#toStart.length = 0
    for (const { domain } of this.#attached.values()) domain.stop()
  }

  /** Resolves when every domain has been prepared, or could not be. */
  async prepared (): Promise<void> {
    await Promise.all(this.all().map(async domain => { await domain.prepared }))
  }

  /**
   * Attaches the domains that are new and detaches those that are no longer wanted, or wanted otherwise. One that tasks are
   * at work on stays until they have ended, and takes no new ones.
   */
  reconcile (wanted: readonly DomainOptions[]): void {
    for (const [id, attached] of this.#attached) {
      const options = wanted.find(one => one.id === id)
      attached.leaving = options === undefined ? {} : isSame(options, attached.options) ? undefined : { next: options }
      attached.domain.setLeaving(attached.leaving !== undefined)
      this.#settle(id, attached)
    }
    for (const options of wanted) if (!this.#attached.has(options.id)) this.#attach(options)
  }

  /** Keeps domains attached until the returned function is called. Throws `domain-unavailable` for one that is leaving. */
  use (ids: readonly string[]): () => void {
    const used = [...new Set(ids)].flatMap(id => {
      const attached = this.#attached.get(id)
      return attached === undefined ? [] : [{ id, attached }]
    })
    for (const { id, attached } of used) if (attached.leaving !== undefined) throw new AppError('domain-unavailable', `Domain ${id} is no longer in the configuration: it is detached when the tasks that use it have ended.`)
    for (const { attached } of used) attached.uses++
    return () => {
      for (const { id, attached } of used) {
        attached.uses--
        this.#settle(id, attached)
      }
    }
  }

  all (): Domain[] { return [...this.#attached.values()].map(({ domain }) => domain) }

  /** As they were attached. */
  options (): DomainOptions[] { return [...this.#attached.values()].map(({ options }) => options) }

  /** The bandwidth that copies from and to a domain may have together, of those that have a limit. */
  ceilings (): ReadonlyMap<string, number> {
    return new Map(this.all().flatMap(({ id, bandwidth }) => bandwidth === undefined ? [] : [[id, bandwidth]]))
  }

  /** How the images of a domain are kept; of one that is not there, the commonest. */
  layoutOf (id: string): Layout { return this.#attached.get(id)?.options.layout ?? 'directory' }

  /** Whether one of these domains has the leases of sanlock. */
  haveSanlock (ids: ReadonlyArray<string | undefined>): boolean { return ids.some(id => id !== undefined && this.#attached.get(id)?.options.leases === 'sanlock') }

  places (): DomainPlace[] { return this.all().map(({ place }) => place) }

  /** Throws `domain-not-found`. */
  get (id: string): Domain {
    const attached = this.#attached.get(id)
    if (attached === undefined) throw new AppError('domain-not-found', `This agent has no domain ${id}. GET /domains lists those it has.`)
    return attached.domain
  }

  /**
   * Throws if one of them does not answer, or its leases are not to be had.
   *
   * @param waiting called while it is waited for whether locks work there.
   */
  async assertAnswer (ids: readonly string[], waiting?: () => void): Promise<void> {
    await Promise.all(ids.map(async id => { await this.get(id).assertAnswers(waiting) }))
  }

  #attach (options: DomainOptions): void {
    const domain = this.#make(options)
    this.#attached.set(options.id, { domain, options, uses: 0 })
    if (this.#started) this.#start(domain)
  }

  #start (domain: Domain): void {
    this.#toStart.push(domain)
    this.#startNext()
  }

  #startNext (): void {
    if (this.#startingNow >= maxStarting) return
    const domain = this.#toStart.shift()
    if (domain === undefined) return
    this.#startingNow++
    void domain.start().then(() => {
      this.#startingNow--
      this.#startNext()
    })
  }

  #settle (id: string, attached: Attached): void {
    if (attached.leaving === undefined || attached.uses > 0 || this.#attached.get(id) !== attached) return
    const waiting = this.#toStart.indexOf(attached.domain)
    if (waiting !== -1) this.#toStart.splice(waiting, 1)
    attached.domain.stop()
    this.#attached.delete(id)
    if (attached.leaving.next !== undefined) this.#attach(attached.leaving.next)
  }
}

function isSame (a: DomainOptions, b: DomainOptions): boolean {
  return a.path === b.path && a.layout === b.layout && a.create === b.create && a.sample === b.sample && a.bandwidth === b.bandwidth && a.leases === b.leases && a.sanlockHostId === b.sanlockHostId &&
    a.mode === b.mode && a.owner?.uid === b.owner?.uid && a.owner?.gid === b.owner?.gid
}
