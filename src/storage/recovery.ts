import { createHash } from 'node:crypto'
import { taskIdPattern } from '../api/names.ts'
import type { Copy } from '../api/image.ts'
import type { TaskSpec } from '../api/kinds.ts'
import type { Domain } from './attached-domain.ts'
import type { Page } from './protocol.ts'
import { keyOf as recordKeyOf } from './record.ts'

/** Who continues an interrupted copy: somebody who asks; the host that was copying, when it is back; any host. */
export type RecoveryPolicy = 'manual' | 'own' | 'any'

interface RecoveryOptions {
  policy: RecoveryPolicy
  hostId: string
  domains: () => ReadonlyArray<Pick<Domain, 'id' | 'copies' | 'fixes' | 'locks'>>
  /** Begins a task, or finds that it is under way. Throws what stands against it. */
  claim: (id: string, spec: TaskSpec) => void
  log: { info (fields: object, message: string): void, warn (fields: object, message: string): void }
}

const roundMs = 60_000
/** How long the domains are waited for at the start. */
const longestStartMs = 10_000
/** A copy that keeps failing is tried again after one minute, two, four, up to an hour. */
const firstPauseMs = 60_000
const longestPauseMs = 60 * 60_000

/**
 * Continues interrupted copies by itself: a task like any other, of an id that is the same on every host. Nobody owns it:
 * hosts that see the same copy compete for its lease, and those that lose are refused.
 */
export class Recovery {
  readonly #options: RecoveryOptions
  readonly #attempts = new Map<string, { count: number, notBefore: number }>()
  /** With the policy `own`, for each domain: what this host had left when the domain was first seen. What fails later was told to whoever asked for it. */
  readonly #left = new Map<string, Set<string>>()
  /** Tasks whose accept step was cut short by its deadline: their callers were told that nothing is known. */
  readonly #overdue = new Set<string>()
  #timer: NodeJS.Timeout | undefined
  #stopped = false

  constructor (options: RecoveryOptions) {
    this.#options = options
  }

  /** Begins as soon as the domains are there; without those that take longer, for one may hang for ever. */
  start (prepared: Promise<void>): void {
    if (this.#options.policy === 'manual') return
    let begun = false
    const begin = () => {
      if (begun) return
      begun = true
      clearTimeout(this.#timer)
      void this.#round()
    }
    this.#timer = setTimeout(begin, longestStartMs).unref()
    void prepared.then(begin)
  }

  stop (): void {
    this.#stopped = true
    clearTimeout(this.#timer)
  }

  /** The deadline of its accept step has ended this task. The copy that it may have left goes on. */
  overdue (taskId: string): void {
    this.#overdue.add(taskId)
  }

  async #round (): Promise<void> {
    if (this.#stopped) return
    const overdue = [...this.#overdue]
    let isWhole = true
    await Promise.all(this.#options.domains().map(async domain => {
      try {
        for (const taskId of overdue) for (const copy of await allOf(async page => await domain.copies({ ...page, taskId }))) this.#left.get(domain.id)?.add(keyOf(copy))
        const interrupted = await allOf(async page => await domain.copies({ ...page, state: 'interrupted' }))
        const ours = new Set(interrupted.filter(copy => this.#isOurs(copy)).map(keyOf))
        if (!this.#left.has(domain.id)) this.#left.set(domain.id, new Set(ours))
        for (const key of this.#attempts.keys()) if (key.startsWith(`${domain.id}/`) && !ours.has(key)) this.#attempts.delete(key)
        if (ours.size > 0 && await this.#mayContinue(domain)) await this.#mend(domain, ours)
      } catch (error) {
        isWhole = false
        this.#options.log.warn({ domain: domain.id, err: error }, `could not look for interrupted copies in domain ${domain.id}`)
      }
    }))
    // every copy was seen: those that were not among them have left nothing
    if (isWhole) for (const taskId of overdue) this.#overdue.delete(taskId)
    // not on the stroke of a minute: hosts that were started together would ask the storage together for ever
    if (!this.#stopped) this.#timer = setTimeout(() => { void this.#round() }, roundMs * (0.75 + Math.random() / 2)).unref()
  }

  /**
   * Nobody looks before it continues a copy by itself, so it must be certain that a copy which looks interrupted is: that
   * locks keep away whoever is there. With `own`, that no other agent calls its copies those of this host, too.
   */
  async #mayContinue ({ id, locks }: Pick<Domain, 'id' | 'locks'>): Promise<boolean> {
    await locks.settled()
    const isCertain = this.#options.policy === 'any'
      ? locks.areProven
      : locks.refusal === undefined && locks.status?.problems?.some(({ code }) => code === 'host-id-duplicate') !== true
    if (!isCertain) {
      const why = 'it is not certain that they are interrupted'
      this.#options.log.warn({ domain: id, locks: locks.status }, `copies in domain ${id} are not continued: ${why}`)
    }
    return isCertain
  }

  #isOurs (copy: Copy): boolean {
    // who canceled a copy did not want it to go on
    if (copy.state !== 'interrupted' || copy.copy.canceledAt !== undefined) return false
    if (this.#options.policy === 'any') return true
    return copy.copy.host.id === this.#options.hostId && this.#left.get(copy.domain)?.has(keyOf(copy)) !== false
  }

  async #mend (domain: Pick<Domain, 'id' | 'fixes'>, ours: ReadonlySet<string>): Promise<void> {
    for (const { image, volume, fixes } of await allOf(async page => await domain.fixes(page))) {
      const key = keyOf({ domain: domain.id, image, volume })
      const mend = fixes.find(({ task }) => task.kind === 'storage.mendImage' || task.kind === 'storage.createImage')
      const { count, notBefore } = this.#attempts.get(key) ?? { count: 0, notBefore: 0 }
      if (!ours.has(key) || mend === undefined || performance.now() < notBefore || this.#stopped) continue
      this.#attempts.set(key, { count: count + 1, notBefore: performance.now() + Math.min(firstPauseMs * 2 ** count, longestPauseMs) })
      const id = taskIdOf(domain.id, volume === undefined ? image : `${image}.${volume}`)
      try {
        this.#options.claim(id, mend.task)
        this.#options.log.info({ domain: domain.id, image, task: id, attempt: count + 1 }, `continuing the interrupted copy ${image} in domain ${domain.id}`)
      } catch (error) {
        this.#options.log.warn({ domain: domain.id, image, task: id, err: error }, `the interrupted copy ${image} in domain ${domain.id} is not continued now`)
      }
    }
  }
}

const pageItems = 1000

/** A whole list, page by page. */
async function allOf<T extends { image: string, volume?: string | undefined }> (read: (page: Page) => Promise<T[]>): Promise<T[]> {
  const all: T[] = []
  for (let after = ''; ;) {
    const items = await read({ after, limit: pageItems })
    all.push(...items)
    const last = items.at(-1)
    if (last === undefined || items.length < pageItems) return all
    after = recordKeyOf(last)
  }
}

function keyOf ({ domain, image, volume }: { domain: string, image: string, volume?: string | undefined }): string {
  return volume === undefined ? `${domain}/${image}` : `${domain}/${image}/${volume}`
}

const isTaskId = new RegExp(taskIdPattern)

/** `recover.<domain>.<image>`; where that is no task id, what is wrong is left out and a hash keeps names apart. */
export function taskIdOf (domain: string, image: string): string {
  const id = `recover.${domain}.${image}`
  if (isTaskId.test(id)) return id
  const hash = createHash('sha256').update(image).digest('hex').slice(0, 12)
  return `${id.replaceAll(/[^A-Za-z0-9._~:@=+,-]/g, '').slice(0, 240)}.${hash}`
}
