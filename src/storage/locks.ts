import type { LockProblem, LockStatus } from '../api/domain.ts'
import { AppError } from '../errors.ts'
import type { LockRefusal } from './protocol.ts'

/** How long a command waits to learn whether locks work: longer than it takes to find out. */
const longestWaitMs = 12_000
/** How often a command that waits says that it does. */
const tellEveryMs = 2000

/** What is known of the locks in a domain, and who waits for news of it. */
export class Locks {
  readonly #domain: string
  readonly #enforced: boolean
  readonly #listeners = new Set<() => void>()
  #status: LockStatus | undefined

  /** @param enforced broken locks refuse commands; not where other leases exclude writers. */
  constructor (domain: string, { enforced }: { enforced: boolean }) {
    this.#domain = domain
    this.#enforced = enforced
  }

  /** Undefined before the first look. */
  get status (): LockStatus | undefined { return this.#status }

  /** Whether nobody writes whom our locks do not keep away: others respect them, or there is nobody else. */
  get areProven (): boolean {
    if (!this.#enforced) return this.refusal === undefined
    return this.#status?.state === 'proven' || this.#status?.state === 'alone'
  }

  /** What stands against commands. */
  get refusal (): LockRefusal | undefined {
    return this.#status?.problems?.find((problem): problem is LockRefusal => this.#refuses(problem))
  }

  set (status: LockStatus): void {
    this.#status = status
    for (const listener of [...this.#listeners]) listener()
  }

  /** The process that looked is gone; what it found may no longer be so. */
  forget (): void {
    this.#status = undefined
  }

  /** Calls back after each change. Returns what ends that. */
  onChange (listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }

  /** Calls back once when commands are refused, now or later. Returns what ends that. */
  onRefusal (listener: (refusal: LockRefusal) => void): () => void {
    const look = () => {
      const { refusal } = this
      if (refusal === undefined) return
      end()
      listener(refusal)
    }
    const end = this.onChange(look)
    look()
    return end
  }

  /** Members of the status of a domain that is there. */
  describe (warnings: readonly string[] = []) {
    if (this.#status === undefined) return {}
    const { refusal } = this
    const others = (this.#status.problems ?? []).filter(problem => !this.#refuses(problem)).map(({ detail }) => detail)
    return {
      locks: this.#status,
      ...(warnings.length + others.length > 0 && { warnings: [...warnings, ...others] }),
      ...(refusal !== undefined && { state: 'unavailable' as const, code: refusal.code, detail: refusal.detail })
    }
  }

  /**
   * Waits until it is known whether locks work. Throws `locks-broken` or `domain-id-conflict`, or `domain-unavailable` when
   * it takes too long to find out.
   */
  async assertWork (waiting: () => void = () => {}): Promise<void> {
    await this.settled(waiting)
    const { refusal } = this
    if (refusal !== undefined) throw new AppError(refusal.code, refusal.detail)
    if (!this.#isOpen) return
    throw new AppError('domain-unavailable', `Whether locks in domain ${this.#domain} exclude other hosts is not known yet. Try again in a moment.`)
  }

  /** Resolves when it is known whether locks work, or has not been found out for long. */
  async settled (waiting: () => void = () => {}): Promise<void> {
    if (!this.#isOpen) return
    await new Promise<void>(resolve => {
      const telling = setInterval(waiting, tellEveryMs).unref()
      const done = () => {
        clearInterval(telling)
        clearTimeout(late)
        end()
        resolve()
      }
      const late = setTimeout(done, longestWaitMs).unref()
      const end = this.onChange(() => { if (!this.#isOpen) done() })
    })
  }

  get #isOpen (): boolean {
    return this.#enforced && (this.#status === undefined || this.#status.state === 'checking')
  }

  #refuses ({ code }: LockProblem): boolean {
    return code === 'domain-id-conflict' || (code === 'locks-broken' && this.#enforced)
  }
}
