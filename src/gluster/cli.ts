import { AppError } from '../errors.ts'
import { CommandError, run, type RunResult } from '../system/run.ts'
import { parseAnswer, type Answer } from './answers.ts'
import { fitsBatch, formatBatch, splitAnswers } from './batch.ts'
import { pause } from './pause.ts'
import { isUnavailable, refusalOf } from './refusal.ts'
import { Turns } from './turns.ts'
import { UnexpectedOutput } from './xml.ts'

export interface GlusterOptions {
  /** The program, by name or path. Default `gluster`. */
  command?: string
  /** Environment on top of the minimal one. */
  env?: Readonly<Record<string, string>>
  /** Milliseconds for a command that only looks. Default 20,000: while some host starts a rebalance (ten seconds with GlusterFS 10), glusterd does not answer. */
  readTimeoutMs?: number
  /** Milliseconds for a command that changes something. Default 60,000. */
  changeTimeoutMs?: number
  /** Milliseconds for which a command is repeated while Gluster is busy with another one. Default 30,000. */
  patienceMs?: number
  /** Told of every run of the program, how long it took. */
  called?: (seconds: number) => void
}

export interface AskOptions {
  /** The volume the command locks; absent when it concerns all of them. */
  volume?: string
  /** Answered by glusterd from its own memory: needs no turn. */
  lockFree?: boolean
  /** The command changes something: when its end is not seen, what it did is unknown. */
  changes?: boolean
  /** The host whose glusterd is asked; only looking is allowed elsewhere. Default: this host's. */
  remoteHost?: string
  /** Instead of the usual ones. */
  timeoutMs?: number
  patienceMs?: number
  signal?: AbortSignal
}

/** One of several questions. It only looks. */
export interface Question<T> {
  args: readonly string[]
  read: (answer: Answer) => T
}

/** What came of a question. */
export type Reply<T> = { value: T } | { error: AppError }

/** What the calls so far were like, for metrics. */
export interface GlusterCounters {
  calls: number
  failures: number
  timeouts: number
  /** Repetitions because Gluster was busy. */
  retries: number
  secondsTotal: number
  secondsMax: number
}

/** Runs of the program for several questions, beyond which what is left is asked another time. */
const batchRounds = 2
const firstPauseMs = 200
const longestPauseMs = 2000

/** The gluster command: one call at a time per volume, each with a deadline, repeated while Gluster is busy. */
export class Gluster {
  readonly #command: string
  readonly #env: Readonly<Record<string, string>>
  readonly #readTimeoutMs: number
  readonly #changeTimeoutMs: number
  readonly #patienceMs: number
  readonly #called: (seconds: number) => void
  // Glusterd locks a volume for each command and refuses the second one: better to wait here than to be refused there.
  readonly #turns = new Turns()
  readonly #counters: GlusterCounters = { calls: 0, failures: 0, timeouts: 0, retries: 0, secondsTotal: 0, secondsMax: 0 }

  constructor (options: GlusterOptions = {}) {
    this.#command = options.command ?? 'gluster'
    this.#env = options.env ?? {}
    this.#readTimeoutMs = options.readTimeoutMs ?? 20_000
    this.#changeTimeoutMs = options.changeTimeoutMs ?? 60_000
    this.#patienceMs = options.patienceMs ?? 30_000
    this.#called = options.called ?? (() => {})
  }

  get counters (): Readonly<GlusterCounters> {
    return { ...this.#counters }
  }

  /** How long to go on while Gluster is busy, for those who repeat more than one command. */
  get patienceMs (): number {
    return this.#patienceMs
  }

  /**
   * Runs `gluster --xml ARGS` and returns what `read` makes of the answer. Throws AppError when Gluster did not do it,
   * and when the answer cannot be understood.
   */
  async ask<T> (args: readonly string[], read: (answer: Answer) => T, options: AskOptions = {}): Promise<T> {
    const { volume, lockFree = false, patienceMs = this.#patienceMs, signal } = options
    const end = performance.now() + patienceMs
    for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(pauseMs * 2, longestPauseMs)) {
      const work = (): Promise<T> => this.#call(args, read, options)
      try {
        return await (lockFree ? work() : this.#turns.take(volume, this.#waiting(end, signal), work))
      } catch (error) {
        signal?.throwIfAborted()
        if (isTimeout(error)) throw new AppError('gluster-busy', `${describe(args)} was not run: another command on the volume has not ended for ${patienceMs} ms. Try again later.`, { cause: error })
        if (!(error instanceof AppError) || error.code !== 'gluster-busy' || performance.now() + pauseMs > end) throw error
      }
      this.#counters.retries++
      // Hosts that were refused at the same instant must not come back at the same instant.
      await pause(pauseMs * (0.5 + Math.random()), signal)
    }
  }

  /**
   * Asks several questions in as few runs of the program as possible, and returns what came of each, in order.
   *
   * The program answers commands from its standard input one after another, and ends with the first that is refused:
   * the rest is asked again, and what was refused because Gluster is busy last of all. Where it answers nothing that
   * way, each command is run by itself.
   */
  async askAll<T> (questions: ReadonlyArray<Question<T>>): Promise<Array<Reply<T>>> {
    const replies = new Map<Question<T>, Reply<T>>()
    let left = questions.filter(({ args }) => fitsBatch(args))
    let answered = true
    for (let round = 0; round < batchRounds && left.length > 1 && answered; round++) {
      const asked = left
      const told = await this.#askBatch(asked)
      asked.forEach((question, index) => {
        const reply = told[index]
        if (reply !== undefined) replies.set(question, reply)
      })
      answered = told.length > 0
      const isBusy = (question: Question<T>): boolean => {
        const reply = replies.get(question)
        return reply !== undefined && 'error' in reply && reply.error.code === 'gluster-busy'
      }
      left = [...asked.filter(question => !replies.has(question)), ...asked.filter(isBusy)]
    }
    for (const question of questions) {
      if (replies.has(question)) continue
      if (answered && fitsBatch(question.args) && questions.length > 1 && left.length > 1) {
        replies.set(question, { error: new AppError('gluster-busy', `${describe(question.args)} was not asked: Gluster refused too many of the commands before it. Ask again.`) })
      } else {
        replies.set(question, await this.#reply(question))
      }
    }
    return questions.flatMap(question => replies.get(question) ?? [])
  }

  /** Runs `gluster ARGS` and returns what it printed: for the commands that know no XML and need no lock. */
  async print (args: readonly string[]): Promise<string> {
    const { stdout, stderr, exitCode } = await this.#measured(args, false, async () => await this.#run(['--mode=script', ...args], this.#readTimeoutMs))
    if (isUnavailable(stdout)) throw unavailable(stdout, false)
    if (exitCode === 0) return stdout
    throw new AppError('gluster-refused', `${describe(args)}: Gluster says: ${(stderr.trim() || stdout.trim()).slice(0, 1000)}`)
  }

  /** The answers that came: as many as questions, or the last is a refusal. */
  async #askBatch<T> (questions: ReadonlyArray<Question<T>>): Promise<Array<Reply<T>>> {
    const args = [`${questions.length} commands`]
    const signal = this.#waiting(performance.now() + this.#patienceMs, undefined)
    try {
      const input = formatBatch(questions.map(question => question.args))
      const { stdout, stderr } = await this.#turns.take(undefined, signal, async () => await this.#measured(args, false, async () => {
        const result = await this.#run(['--mode=script', '--xml'], this.#readTimeoutMs, input)
        if (isUnavailable(result.stdout + result.stderr)) throw unavailable(result.stdout || result.stderr, false)
        return result
      }))
      return splitAnswers(stdout).slice(0, questions.length).flatMap((text, index) => {
        const question = questions[index]
        if (question === undefined) return []
        try {
          return { value: question.read(this.#understand(question.args, text, stderr, false)) }
        } catch (error) {
          return { error: asAppError(this.#explain(question.args, error, false)) }
        }
      })
    } catch (error) {
      const failure = isTimeout(error) ? new AppError('gluster-busy', 'Another command has not ended. Try again later.', { cause: error }) : asAppError(error)
      return questions.map(() => ({ error: failure }))
    }
  }

  async #reply<T> ({ args, read }: Question<T>): Promise<Reply<T>> {
    try {
      return { value: await this.ask(args, read) }
    } catch (error) {
      return { error: asAppError(error) }
    }
  }

  #waiting (end: number, signal: AbortSignal | undefined): AbortSignal {
    const patience = AbortSignal.timeout(Math.max(1, Math.ceil(end - performance.now())))
    return signal === undefined ? patience : AbortSignal.any([signal, patience])
  }

  async #call<T> (args: readonly string[], read: (answer: Answer) => T, options: AskOptions): Promise<T> {
    const { changes = false, remoteHost } = options
    const elsewhere = remoteHost === undefined ? [] : [`--remote-host=${remoteHost}`]
    return await this.#measured(args, changes, async () => {
      const timeoutMs = options.timeoutMs ?? (changes ? this.#changeTimeoutMs : this.#readTimeoutMs)
      const { stdout, stderr } = await this.#run(['--mode=script', '--xml', ...elsewhere, ...args], timeoutMs)
      return read(this.#understand(args, stdout, stderr, changes))
    })
  }

  // The caller's signal does not kill a running command: glusterd would go on with it, and nobody would see the end.
  #run (args: readonly string[], timeoutMs: number, input?: string): Promise<RunResult> {
    return run([this.#command, ...args], { timeoutMs, maxOutput: 16 * 1024 * 1024, env: this.#env, ...(input !== undefined && { input }) })
  }

  /** Counts a run of the program, and explains its failure. */
  async #measured<T> (args: readonly string[], changes: boolean, work: () => Promise<T>): Promise<T> {
    const start = performance.now()
    this.#counters.calls++
    try {
      return await work()
    } catch (error) {
      this.#counters.failures++
      if (error instanceof CommandError && error.timedOut) this.#counters.timeouts++
      throw this.#explain(args, error, changes)
    } finally {
      const seconds = (performance.now() - start) / 1000
      this.#called(seconds)
      this.#counters.secondsTotal += seconds
      this.#counters.secondsMax = Math.max(this.#counters.secondsMax, seconds)
    }
  }

  // Never by the exit status: a start that was refused ends with 0, a status that was refused with 1, both with XML.
  #understand (args: readonly string[], stdout: string, stderr: string, changes: boolean): Answer {
    if (isUnavailable(stdout)) {
      throw unavailable(stdout, changes)
    }
    try {
      const answer = parseAnswer(stdout)
      if (answer.ok) return answer
      throw refusalOf(answer, describe(args), changes)
    } catch (error) {
      // a syntax error goes to standard error, with nothing on standard output
      if (error instanceof UnexpectedOutput && stdout.trim() === '') throw new UnexpectedOutput('it printed nothing', stderr, error)
      throw error
    }
  }

  #explain (args: readonly string[], error: unknown, changes: boolean): unknown {
    if (error instanceof UnexpectedOutput) return unexpectedAnswer(describe(args), error, changes)
    if (!(error instanceof CommandError)) return error
    if (error.notFound) return new AppError('gluster-unavailable', 'The gluster command is not installed on this host, or not in the PATH of the agent.', { cause: error })
    if (error.timedOut) {
      const advice = changes ? 'Gluster may still do it: look at the operations before you try again.' : 'Try again later.'
      return new AppError('gluster-unresponsive', `${describe(args)}: ${error.message}. ${advice}`, { changed: changes, cause: error })
    }
    return new AppError('gluster-unavailable', `${describe(args)}: ${error.message}`, { changed: changes, cause: error })
  }
}

/** Whatever is no failure of Gluster is one of this program: it is not to be told as an answer. */
function asAppError (error: unknown): AppError {
  if (error instanceof AppError) return error
  throw error
}

function describe (args: readonly string[]): string {
  return `gluster ${args.join(' ')}`
}

function unavailable (stdout: string, changed: boolean): AppError {
  return new AppError('gluster-unavailable', `glusterd on this host does not answer (${stdout.trim()}). Start glusterd and try again.`, { changed })
}

// With the excerpt that shows why.
function unexpectedAnswer (command: string, error: UnexpectedOutput, changes: boolean): AppError {
  return new AppError('gluster-unexpected', `${command}: the answer cannot be understood: ${error.message}. It reads: ${error.excerpt}`, {
    members: { excerpt: error.excerpt }, changed: changes, cause: error
  })
}

function isTimeout (error: unknown): boolean {
  return error instanceof DOMException && error.name === 'TimeoutError'
}
