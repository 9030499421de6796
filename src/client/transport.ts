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
  method?: 'GET' | 'PUT' | 'PATCH' | 'DELETE'
  query?: Readonly<Record<string, unknown>>
  headers?: Readonly<Record<string, string | undefined>>
  body?: unknown
  signal?: AbortSignal | undefined
  /** Milliseconds that the answer may take, beyond the usual. */
  patienceMs?: number
}

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
        if (!(response.statusCode === 503 || response.statusCode === 429) || performance.now() >= giveUpAt) return { ...unpack<T>(response, text), attempts }
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
    if (response.statusCode >= 400) unpack(response, await response.body.text())
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

function unpack<T> ({ statusCode, headers }: Dispatcher.ResponseData, text: string): Omit<Reply<T>, 'attempts'> {
  const contentType = String(headers['content-type'] ?? '')
  if (statusCode >= 400) throw new ProblemError(contentType.startsWith('application/problem+json') ? JSON.parse(text) as Problem : foreign(statusCode, text))
  return { status: statusCode, headers, body: (text === '' ? undefined : JSON.parse(text)) as T }
}

/** What a proxy in between, or another program, has answered. */
function foreign (status: number, text: string): Problem {
  return { type: 'about:blank', title: 'Not an answer of the agent', status, code: 'foreign-answer', detail: `Something that is not the agent answered ${status}: ${text.slice(0, 200)}` }
}
