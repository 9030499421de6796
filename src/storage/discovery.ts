import { join, sep } from 'node:path'
import { programFolder } from '../location.ts'
import { answers } from './answers.ts'
import type { FoundDomain } from './attached-domain.ts'
import { Child } from './child.ts'
import type { Outcome } from './outcome.ts'

/** What the agent may ask a process that looks for domains. */
export interface DiscoverFunctions {
  /** The ids of the oVirt domains below a mount root, which are their names there. */
  find (root: string): Promise<Outcome<string[]>>
}

/** What such a process tells the agent. */
export interface DiscoverAgentFunctions {
  ready (): void
}

interface Log {
  warn (fields: object, message: string): void
}

const deadlineMs = 5000

/** Finds the oVirt domains below mount roots. */
export class Discovery {
  readonly #log: Log
  /** Roots whose last look has not ended. */
  readonly #hanging = new Set<string>()

  constructor (log: Log) {
    this.#log = log
  }

  /**
   * The domains below these roots, as they are to be attached. Below a root that cannot be looked at now, those that were
   * there before are.
   *
   * @param known the domains of the configuration itself, which are not found a second time, nor any that is nested with them.
   */
  async find (roots: readonly string[], known: readonly FoundDomain[], before: readonly FoundDomain[]): Promise<FoundDomain[]> {
    const found = (await Promise.all(roots.map(async root => await this.#look(root) ?? before.filter(({ path }) => path.startsWith(root + sep))))).flat()
    const taken = new Set(known.map(({ id }) => id))
    return found.filter(({ id, path }) => {
      if (taken.has(id) || known.some(other => isWithin(path, other.path) || isWithin(other.path, path))) return false
      taken.add(id)
      return true
    })
  }

  async #look (root: string): Promise<FoundDomain[] | undefined> {
    if (this.#hanging.has(root)) return undefined
    this.#hanging.add(root)
    const child = new Child<DiscoverFunctions, object>(new URL('storage/discover/main', programFolder), {})
    void child.gone.then(() => { this.#hanging.delete(root) })
    try {
      const ids = await child.call(`Looking for domains in ${root}`, answers.domains, async remote => await remote.find(root), deadlineMs)
      return ids.map(id => ({ id, path: join(root, id), layout: 'ovirt', create: false, sample: false }))
    } catch (error) {
      this.#log.warn({ root, err: error }, `could not look for domains in ${root}`)
      return undefined
    } finally {
      // it holds no lease
      child.end()
    }
  }
}

function isWithin (path: string, outer: string): boolean {
  return path === outer || path.startsWith(outer.endsWith(sep) ? outer : outer + sep)
}
