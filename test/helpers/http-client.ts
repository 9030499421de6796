import { once } from 'node:events'
import { Agent, request, type IncomingHttpHeaders, type OutgoingHttpHeaders } from 'node:http'
import { connect } from 'node:net'
import type { Test } from 'tap'
import type { Problem } from '../../src/api/problem.ts'
import type { Task, TaskList } from '../../src/api/task.ts'
import { catalogue, type ErrorCode } from '../../src/errors.ts'

/** Where a server listens. */
export interface Address {
  host?: string
  port?: number
  socketPath?: string
}

export interface Send {
  headers?: OutgoingHttpHeaders
  /** Sent as JSON unless it is text already. */
  body?: unknown
  signal?: AbortSignal
}

/** A reply that has been read to its end. */
export class Reply {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly text: string

  constructor (status: number, headers: IncomingHttpHeaders, text: string) {
    this.status = status
    this.headers = headers
    this.text = text
  }

  get json (): Record<string, unknown> { return JSON.parse(this.text) }
  get task (): Task { return JSON.parse(this.text) }
  get list (): TaskList { return JSON.parse(this.text) }
  get problem (): Problem { return JSON.parse(this.text) }
  get etag (): string { return this.headers.etag ?? '' }
}

/** A client that hides nothing: no redirects, no retries, headers exactly as they are given. */
export class HttpClient {
  readonly #address: Address
  readonly #agent = new Agent({ keepAlive: true })

  constructor (address: Address) {
    this.#address = address
  }

  async send (method: string, path: string, { headers = {}, body, signal }: Send = {}): Promise<Reply> {
    const text = body === undefined || typeof body === 'string' ? body : JSON.stringify(body)
    const sent = request({
      ...this.#address,
      method,
      path,
      agent: this.#agent,
      ...(signal !== undefined && { signal }),
      headers: { ...(text !== undefined && { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }), ...headers }
    })
    sent.end(text)
    const [response] = await once(sent, 'response')
    response.setEncoding('utf8')
    let received = ''
    for await (const chunk of response) received += chunk
    return new Reply(response.statusCode, response.headers, received)
  }

  async get (path: string, headers: OutgoingHttpHeaders = {}): Promise<Reply> {
    return await this.send('GET', path, { headers })
  }

  async put (path: string, body: unknown, headers: OutgoingHttpHeaders = {}): Promise<Reply> {
    return await this.send('PUT', path, { headers, body })
  }

  async patch (path: string, body: unknown, headers: OutgoingHttpHeaders = {}): Promise<Reply> {
    return await this.send('PATCH', path, { headers, body })
  }

  async delete (path: string, headers: OutgoingHttpHeaders = {}): Promise<Reply> {
    return await this.send('DELETE', path, { headers })
  }

  close (): void {
    this.#agent.destroy()
  }
}

/** Sends bytes as they are and reads what comes until the server ends the connection. */
export async function exchange (address: Address, bytes: string | Buffer): Promise<string> {
  const socket = connect({ host: '127.0.0.1', port: 0, ...address, ...(address.socketPath !== undefined && { path: address.socketPath }) })
  socket.write(bytes)
  socket.setEncoding('utf8')
  let received = ''
  for await (const chunk of socket) received += String(chunk)
  return received
}

/** Reads a raw reply as `exchange` has received it. */
export function parseReply (raw: string): Reply {
  const [head = '', text = ''] = raw.split(/\r\n\r\n(.*)/s)
  const [line = '', ...fields] = head.split('\r\n')
  const headers = Object.fromEntries(fields.map(field => {
    const [name = '', value = ''] = field.split(/:\s*(.*)/s)
    return [name.toLowerCase(), value]
  }))
  return new Reply(Number(line.split(' ')[1]), headers, text)
}

/** Checks that a reply is a problem with this code, and everything that every problem has. */
export function isProblem (t: Test, reply: Reply, code: ErrorCode, what: string = code): void {
  const { status, title } = catalogue[code]
  t.match({ status: reply.status, headers: reply.headers, body: reply.json }, {
    status,
    headers: { 'content-type': /^application\/problem\+json/, 'agent-instance': /./ },
    body: { code, status, title, type: `urn:vdsm-tasks:problem:${code}`, detail: /./ }
  }, what)
}
