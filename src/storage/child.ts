import { once } from 'node:events'
import type { BirpcReturn } from 'birpc'
import { AppError } from '../errors.ts'
import { forkBound, type ForkOptions } from '../system/fork.ts'
import { signalWords } from '../system/signals.ts'
import { resultOf, type Answer } from './answers.ts'
import { openChannel } from './channel.ts'
import { explain } from './failure.ts'
import type { Outcome } from './outcome.ts'

/** Sent by a child when it listens. What is sent to it before may be lost: whatever else is loaded into it can take the message. */
interface Greeting { ready (): void }

/** A child process of ours and the calls to it. */
export class Child<Remote extends object, Local extends object> {
  readonly #process
  readonly #rpc: BirpcReturn<Remote, Local & Greeting>
  readonly #greeting: Promise<void>
  readonly #died = new AbortController()
  readonly #registered: boolean
  #greeted = false
  /** Why it could not be started. */
  #failure: Error | undefined
  /** Resolves when the process is gone, and all its descriptors with it. */
  readonly gone: Promise<void>
  /** Resolves when the process listens, or is gone. */
  readonly ready: Promise<void>

  /**
   * @param module URL of the child's main module, without its extension.
   */
  constructor (module: URL, local: Local, options: ForkOptions = {}) {
    this.#registered = options.registered === true
    this.#process = forkBound(module, options)
    // a failed start is told by 'error', not by 'exit'
    this.#process.on('error', error => {
      this.#failure = error
      this.#died.abort()
    })
    let ready = () => {}
    this.#greeting = new Promise(resolve => { ready = () => { this.#greeted = true; resolve() } })
    this.#rpc = openChannel<Remote, Local & Greeting>(this.#process, { ...local, ready: () => { ready() } })
    this.gone = once(this.#process, 'exit').then(() => {}, () => {})
    this.ready = Promise.race([this.#greeting, this.gone])
    void this.gone.then(() => {
      this.#died.abort()
      // without it, calls that are under way would wait for ever
      this.#rpc.$close()
    })
  }

  /** Undefined if it could not be started. */
  get pid (): number | undefined { return this.#process.pid }

  get alive (): boolean { return !this.#died.signal.aborted }

  /** Tells the child something, without an answer. What is told and what is called arrives in order. */
  tell (message: (remote: BirpcReturn<Remote, Local & Greeting>) => Promise<void>): void {
    void this.#greeting.then(async () => { await message(this.#rpc) }).catch(() => { /* it is gone: so be it */ })
  }

  /**
   * Makes a call and unpacks its outcome, which must be what is taken for an `answer`. Throws `storage-unresponsive` after the deadline, if there is one; the call
   * itself goes on, a process is never killed for being slow: its lease must stay until the storage lets go of it.
   *
   * @param extensions is given what starts the deadline again, for as long as the call lasts.
   */
  async call<T> (what: string, answer: Answer<T>, call: (remote: BirpcReturn<Remote, Local & Greeting>) => Promise<Outcome<T>>, deadlineMs?: number, extensions?: Set<() => void>): Promise<T> {
    if (!this.alive) throw this.#death(what)
    let timer: NodeJS.Timeout | undefined
    const { signal } = this.#died
    const extend = () => { timer?.refresh() }
    extensions?.add(extend)
    const settled = await new Promise<Outcome<T> | 'died' | 'late'>(resolve => {
      const died = () => { resolve('died') }
      signal.addEventListener('abort', died)
      if (deadlineMs !== undefined) timer = setTimeout(() => { resolve('late') }, deadlineMs)
      this.#greeting.then(async () => await call(this.#rpc)).then(resolve, died).finally(() => { signal.removeEventListener('abort', died) })
    })
    clearTimeout(timer)
    extensions?.delete(extend)
    if (settled === 'late') throw new AppError('storage-unresponsive', `${what}: the storage did not answer within ${deadlineMs} ms. When it does, work goes on by itself.`)
    if (settled === 'died') throw this.#death(what)
    return resultOf(settled, what, answer)
  }

  /** Ends the process. Only for one whose work is done, or that nobody can need any more. */
  end (): void {
    this.#process.kill('SIGKILL')
  }

  /** Keeps this process from ending by itself, as a new child does. */
  ref (): void {
    this.#process.ref()
    this.#process.channel?.ref()
  }

  /** Lets this process end before the child. */
  unref (): void {
    this.#process.unref()
    this.#process.channel?.unref()
  }

  #death (what: string): AppError {
    const { exitCode, signalCode, pid } = this.#process
    if (pid === undefined && this.#failure !== undefined) return explain(this.#failure, `${what}: no process could be started for it`)
    if (this.#registered && !this.#greeted) return new AppError('domain-unavailable', `${what}: sanlock did not take the process that was to work on the storage. See that its daemon is running on this host, and try again. Nothing was changed.`)
    const how = signalCode === null ? `ended with status ${exitCode}` : signalWords(signalCode)
    return new AppError('storage-process-died', `${what}: the process that worked on the storage ${how}. Look at the image before you send the command again.`, { changed: true })
  }
}
