import type { Socket } from 'node:net'
import { setImmediate as turn } from 'node:timers/promises'
import type { FastifyBaseLogger, FastifyRequest } from 'fastify'
import type { Credentials, Presented } from '../auth/credentials.ts'
import { includes, type Caller, type Scope } from '../auth/scope.ts'
import { AppError, type ErrorCode } from '../errors.ts'
import { presentedBy } from './access.ts'
import { pathOf } from './problems.ts'

interface Stream {
  readonly presented: Presented
  readonly needed: Scope
  readonly path: string
  readonly from: string
  caller: Caller
}

/** Streams that are judged in one turn of the event loop: there may be ten thousand, and each costs a hash. */
const atOnce = 200
const lookEveryMs = 1000

/**
 * Streams stay open for days, and who opened one may lose the right to. Judges them as their requests were judged: when
 * credentials were read anew, when a session was ended, and when the time of one is over. Those that hold are not touched.
 */
export class Standing {
  readonly #credentials: Credentials
  readonly #log: FastifyBaseLogger
  readonly #streams = new Map<Socket, Stream[]>()
  #timer: NodeJS.Timeout | undefined

  constructor (credentials: Credentials, log: FastifyBaseLogger) {
    this.#credentials = credentials
    this.#log = log.level === 'silent' ? log : log.child({}, { level: 'info' })
  }

  /** Looks after the stream that answers a request, until its connection is closed. */
  watch (request: FastifyRequest): void {
    const { caller, socket, ip, routeOptions: { config: { scope } } } = request
    if (caller === undefined || scope === undefined || scope === 'open' || socket.destroyed) return
    const stream = { presented: presentedBy(request), needed: scope, path: pathOf(request), from: ip === '' ? 'unix socket' : ip, caller }
    const others = this.#streams.get(socket)
    // on one connection there can be several, one behind the other
    if (others !== undefined) {
      others.push(stream)
      return
    }
    this.#streams.set(socket, [stream])
    socket.once('close', () => { this.#leave(socket) })
    this.#timer ??= setInterval(() => { this.#look() }, lookEveryMs).unref()
  }

  /** Ends the streams whose callers may not read any more; with the key of a session only its own are looked at. */
  async recheck (sessionKey?: string): Promise<void> {
    let left = atOnce
    for (const [socket, streams] of [...this.#streams]) {
      if (sessionKey !== undefined && !streams.some(({ presented }) => presented.sessionKey === sessionKey)) continue
      this.#judge(socket, streams)
      if (--left > 0) continue
      left = atOnce
      await turn()
    }
  }

  /** Whose time is over is told by a number. */
  #look (): void {
    const now = Date.now()
    for (const [socket, streams] of this.#streams) {
      if (streams.some(({ caller: { until } }) => until !== undefined && until <= now)) this.#judge(socket, streams)
    }
  }

  #judge (socket: Socket, streams: readonly Stream[]): void {
    for (const stream of streams) {
      const code = this.#refusal(stream)
      if (code === undefined) continue
      const { caller: { who, via }, from, path } = stream
      this.#log.info({ audit: 'refusal', who, via, from, method: 'GET', path, code }, `${who}: the stream ${path} was ended: ${code}`)
      // at once: what still waits for the subscriber is nothing for him either. A new request is told why
      socket.destroy()
      return
    }
  }

  #refusal (stream: Stream): ErrorCode | undefined {
    try {
      stream.caller = this.#credentials.identify(stream.presented)
      return includes(stream.caller.scope, stream.needed) ? undefined : 'scope-insufficient'
    } catch (error) {
      if (error instanceof AppError) return error.code
      throw error
    }
  }

  #leave (socket: Socket): void {
    this.#streams.delete(socket)
    if (this.#streams.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }
}
