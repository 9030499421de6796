import { setImmediate as turn } from 'node:timers/promises'
import type { FastifyBaseLogger, FastifyReply, FastifyRequest } from 'fastify'
import type { Credentials, Presented } from '../auth/credentials.ts'
import { includes, type Caller, type Scope } from '../auth/scope.ts'
import { AppError, type ErrorCode } from '../errors.ts'
import { admit, presentedBy } from './access.ts'
import { pathOf } from './problems.ts'

/** A request whose answer takes its time. */
interface Lasting {
  readonly presented: Presented
  readonly needed: Scope
  caller: Caller
  /** Its caller has lost the right to the answer. */
  end (code: ErrorCode): void
}

/** Requests that are judged in one turn of the event loop: there may be ten thousand, and each costs a hash. */
const atOnce = 200
const lookEveryMs = 1000

/**
 * Streams stay open for days, others wait for a minute, and who began them may lose the right to. Judges them as their
 * requests were judged: when credentials were read anew, when a session was ended, and when the time of one is over. Those
 * that hold are not touched.
 */
export class Standing {
  readonly #credentials: Credentials
  readonly #log: FastifyBaseLogger
  readonly #lasting = new Set<Lasting>()
  #timer: NodeJS.Timeout | undefined

  constructor (credentials: Credentials, log: FastifyBaseLogger) {
    this.#credentials = credentials
    this.#log = log.level === 'silent' ? log : log.child({}, { level: 'info' })
  }

  /** Looks after the stream that answers a request, until its connection is closed. */
  watch (request: FastifyRequest): void {
    const { socket, ip, caller } = request
    if (socket.destroyed || caller === undefined) return
    const { who, via } = caller
    const path = pathOf(request)
    const leave = this.#add(request, code => {
      // on one connection there can be several, one behind the other
      if (socket.destroyed) return
      this.#log.info({ audit: 'refusal', who, via, from: ip === '' ? 'unix socket' : ip, method: 'GET', path, code }, `${who}: the stream ${path} was ended: ${code}`)
      // at once: what still waits for the subscriber is nothing for him either. A new request is told why
      socket.destroy()
    })
    if (leave !== undefined) socket.once('close', leave)
  }

  /** Waits for what a request waits for. The signal is aborted when its caller loses the right to the answer. */
  async during (request: FastifyRequest, wait: (lost: AbortSignal) => Promise<void>): Promise<void> {
    const lost = new AbortController()
    const leave = this.#add(request, () => { lost.abort() })
    try {
      await wait(lost.signal)
    } finally {
      leave?.()
    }
  }

  /** Whether a request would be answered if it came now; see `admit`. */
  holds (request: FastifyRequest, reply: FastifyReply): boolean {
    return admit(request, reply, this.#credentials)
  }

  /** Ends what lasts and whose callers may not read any more; with the key of a session only what it began is looked at. */
  async recheck (sessionKey?: string): Promise<void> {
    let left = atOnce
    for (const lasting of [...this.#lasting]) {
      if (sessionKey !== undefined && lasting.presented.sessionKey !== sessionKey) continue
      this.#judge(lasting)
      if (--left > 0) continue
      left = atOnce
      await turn()
    }
  }

  /** Returns what ends looking after it; nothing for a caller who needs no credentials, and so cannot lose them. */
  #add (request: FastifyRequest, end: Lasting['end']): (() => void) | undefined {
    const { caller, routeOptions: { config: { scope } } } = request
    if (caller === undefined || caller.via === 'loopback' || caller.via === 'unix socket' || scope === undefined || scope === 'open') return undefined
    const lasting: Lasting = { presented: presentedBy(request), needed: scope, caller, end }
    this.#lasting.add(lasting)
    this.#timer ??= setInterval(() => { this.#look() }, lookEveryMs).unref()
    return () => {
      this.#lasting.delete(lasting)
      if (this.#lasting.size > 0) return
      clearInterval(this.#timer)
      this.#timer = undefined
    }
  }

  /** Whose time is over is told by a number. */
  #look (): void {
    const now = Date.now()
    for (const lasting of this.#lasting) {
      const { until } = lasting.caller
      if (until !== undefined && until <= now) this.#judge(lasting)
    }
  }

  #judge (lasting: Lasting): void {
    try {
      lasting.caller = this.#credentials.identify(lasting.presented)
      if (!includes(lasting.caller.scope, lasting.needed)) lasting.end('scope-insufficient')
    } catch (error) {
      if (!(error instanceof AppError)) throw error
      lasting.end(error.code)
    }
  }
}
