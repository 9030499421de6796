import type { Layout } from '../api/domain.ts'
import { AppError } from '../errors.ts'
import type { Domain } from './attached-domain.ts'
import type { DomainPlace } from './area.ts'

/** The domains this agent works on. */
export class Domains {
  readonly #domains: ReadonlyMap<string, Domain>

  constructor (domains: readonly Domain[]) {
    this.#domains = new Map(domains.map(domain => [domain.id, domain]))
  }

  start (): void {
    for (const domain of this.#domains.values()) domain.start()
  }

  stop (): void {
    for (const domain of this.#domains.values()) domain.stop()
  }

  /** Resolves when every domain has been prepared, or could not be. */
  async prepared (): Promise<void> {
    await Promise.all(this.all().map(async domain => { await domain.prepared }))
  }

  all (): Domain[] { return [...this.#domains.values()] }

  /** The bandwidth that copies from and to a domain may have together, of those that have a limit. */
  ceilings (): ReadonlyMap<string, number> {
    return new Map(this.all().flatMap(({ id, bandwidth }) => bandwidth === undefined ? [] : [[id, bandwidth]]))
  }

  /** How the images of a domain are kept; of one that is not there, the commonest. */
  layoutOf (id: string): Layout { return this.#domains.get(id)?.layout ?? 'directory' }

  places (): DomainPlace[] { return this.all().map(({ place }) => place) }

  /** Throws `domain-not-found`. */
  get (id: string): Domain {
    const domain = this.#domains.get(id)
    if (domain === undefined) throw new AppError('domain-not-found', `This agent has no domain ${id}. GET /domains lists those it has.`)
    return domain
  }
}
