import { setTimeout as sleep } from 'node:timers/promises'
import { Agent, request, type Dispatcher } from 'undici'
import { ProblemError, UnreachableError } from './errors.ts'
import type { Problem } from './types.ts'

export interface TransportOptions {
  /** Where the agent listens: `http://127.0.0.1:7480`, or `unix:/run/vdsm-tasks.sock`. A path in it, of a proxy, stays in front. */
  url: string
  /** A unix socket to reach it through; the URL's host is then only a name. */
  socketPath?: string
  /** Sent as `Authorization: Bearer`. */
  token?: string
  /** For https URLs: who vouches for the agent's certificate, and the client's own certificate with its key; all PEM. */
  tls?: { ca?: string, cert?: string, key?: string }
  /** For how long a request is tried again while the agent cannot be reached or is busy, in milliseconds. Default 30,000; 0 tries once. */
  retryMs?: number
}

export interface Reply<T> {
  status: number
  headers: Record<string, string | string[] | undefined>
  body: T
  /** How often the request was sent. */
  attempts: number
}

export interface RequestOptions {
  method?: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  query?: Readonly<Record<string, unknown>>
  headers?: Readonly<Record<string, string | undefined>>
  body?: unknown
  signal?: AbortSignal | undefined
  /** Milliseconds that the answer may take, beyond the usual. */
  patienceMs?: number
  /** Members without which it is not the agent that has answered. */
  expected?: Shape
}

/** Some members of an answer, and what they are. */
export type Shape = Readonly<Record<string, 'string' | 'object' | 'array'>>

const answerWithinMs = 30_000
/** Two missed heartbeats: the connection is dead, whatever TCP believes. */
const silenceMs = 45_000

/**
 * Requests to one agent. All of them may be sent twice without harm, PUT above all, so they are: after a lost
 * connection, and when the agent answers 503 or 429 with a time to come again.
 */
export class Transport {
  readonly url: string
  readonly #base: URL
  readonly #dispatcher: Agent
  readonly #authorization: string | undefined
  readonly #retryMs: number

  constructor ({ url, socketPath, token, tls = {}, retryMs = 30_000 }: TransportOptions) {
    const socket = url.startsWith('unix:') ? url.slice('unix:'.length) : socketPath
    this.url = url
    this.#base = new URL(url.startsWith('unix:') ? 'http://localhost' : url)
    this.#retryMs = retryMs
    this.#authorization = token === undefined ? undefined : `Bearer ${token}`
    this.#dispatcher = new Agent({ connect: { ...tls, timeout: 10_000, ...(socket !== undefined && { socketPath: socket }) } })
  }

  /** Whether nothing can be sent any more. */
  get closed (): boolean { return this.#dispatcher.destroyed }

  async send<T> (path: string, options: RequestOptions = {}): Promise<Reply<T>> {
    const giveUpAt = performance.now() + this.#retryMs
    for (let attempts = 1, pauseMs = 200; ; attempts++, pauseMs = Math.min(pauseMs * 2, 5000)) {
      let wait = pauseMs
      try {
        const response = await this.#request(path, options)
        const text = await response.body.text()
        if (!(response.statusCode === 503 || response.statusCode === 429) || performance.now() >= giveUpAt) return { ...unpack<T>(response, text, options.expected), attempts }
        const told = Number(response.headers['retry-after'] ?? 1) * 1000
        // a proxy in between may name a time of day, or say 0: neither is to become as fast as can be
        if (told > 0) wait = told
      } catch (error) {
        options.signal?.throwIfAborted()
        if (error instanceof ProblemError) throw error
        if (this.closed || performance.now() >= giveUpAt) throw new UnreachableError(this.url, error)
      }
      // a fleet of clients must not come back at the same instant
      await sleep(Math.min(wait * (0.75 + Math.random() / 2), Math.max(giveUpAt - performance.now(), 0)), undefined, { signal: options.signal })
    }
  }

  /** Opens a stream; the caller reads its body. Throws what the agent answers instead of one. */
  async open (path: string, options: RequestOptions): Promise<Dispatcher.ResponseData> {
    const response = await this.#request(path, { ...options, headers: { ...options.headers, accept: 'text/event-stream' } }, silenceMs)
    const isStream = response.statusCode === 200 && mediaTypeOf(response) === 'text/event-stream'
    if (!isStream) throw problemIn(response, await response.body.text())
    return response
  }

  async close (): Promise<void> {
    await this.#dispatcher.destroy()
  }

  async #request (path: string, { method = 'GET', query = {}, headers = {}, body, signal, patienceMs = 0 }: RequestOptions, bodyTimeout?: number): Promise<Dispatcher.ResponseData> {
    // an agent behind a proxy may be below a path
    const url = new URL(this.#base.pathname.replace(/\/$/, '') + path, this.#base)
    for (const [name, value] of Object.entries(query)) {
      for (const one of [value].flat()) if (one !== undefined) url.searchParams.append(name, String(one))
    }
    return await request(url, {
      method,
      dispatcher: this.#dispatcher,
      headers: {
        ...Object.fromEntries(Object.entries({ authorization: this.#authorization, ...headers }).filter(([, value]) => value !== undefined)),
        ...(body !== undefined && { 'content-type': 'application/json' })
      },
      body: body === undefined ? null : JSON.stringify(body),
      signal: signal ?? null,
      headersTimeout: answerWithinMs + patienceMs,
      bodyTimeout: bodyTimeout ?? answerWithinMs
    })
  }
}

function unpack<T> (response: Dispatcher.ResponseData, text: string, expected: Shape = {}): Omit<Reply<T>, 'attempts'> {
  const { statusCode: status, headers } = response
  const body = status >= 200 && status < 300 && mediaTypeOf(response) === 'application/json' ? parseObject(text) : undefined
  if (body === undefined || !fits(body, expected)) throw problemIn(response, text)
  return { status, headers, body: body as T }
}

/** Whatever came instead of what was asked for, as an error: the agent's own, or that something else answered. */
function problemIn (response: Dispatcher.ResponseData, text: string): ProblemError {
  const problem = response.statusCode >= 400 && mediaTypeOf(response) === 'application/problem+json' ? parseObject(text) : undefined
  return new ProblemError(problem !== undefined && isProblem(problem) ? problem : foreign(response, text))
}

function mediaTypeOf ({ headers }: Dispatcher.ResponseData): string {
  return String(headers['content-type'] ?? '').split(';', 1)[0]?.trim().toLowerCase() ?? ''
}

/** All that the agent answers is a JSON object; undefined for anything else, also for half of one. */
function parseObject (text: string): object | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : undefined
  } catch {
    return undefined
  }
}

function fits (value: object, expected: Shape): boolean {
  const members = new Map<string, unknown>(Object.entries(value))
  return Object.entries(expected).every(([name, type]) => {
    const member = members.get(name)
    if (type === 'string') return typeof member === 'string'
    return type === 'array' ? Array.isArray(member) : typeof member === 'object' && member !== null
  })
}

function isProblem (value: object): value is Problem {
  return fits(value, { type: 'string', title: 'string', code: 'string', detail: 'string' }) && 'status' in value && typeof value.status === 'number'
}

/** What a proxy in between, or another program, has answered. */
function foreign ({ statusCode, headers }: Dispatcher.ResponseData, text: string): Problem {
  const { location } = headers
  const type = String(headers['content-type'] ?? 'no media type')
  const said = location === undefined ? `${type}: ${text.trim().slice(0, 200)}` : `a redirect to ${String(location).slice(0, 200)}`
  return {
    type: 'about:blank',
    title: 'Not an answer of the agent',
    status: statusCode,
    code: 'foreign-answer',
    detail: `Something that is not the agent, or only a part of its answer, came with status ${statusCode} and ${said}`
  }
}
