import { connect } from 'node:net'
import { seeded } from './seeded.ts'
import { validRequests } from './valid-requests.ts'

/** What came of one hostile request. */
export interface Finding {
  sent: string
  got: string
  why: string
}

const names = ['a', 'sample.raw', '__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty', 'valueOf', '__defineGetter__', '..', '.', '', '%2e%2e', '..%2f..%2foutside%2fsecret.raw', '%00', 'a%00b', '%2F', '%', '%zz', '%c0%af', '..\\..', 'x'.repeat(300), '%F0%9F%92%A9', '\u00e4', '-rf', '.vdsm-tasks', '~root', '$(id)', '`id`', 'a;b', 'a b', '*', '\ud800', '\xff\xfe', 'a\tb', '\u2028', '0', '-1', '1e999', 'null', 'true', '[]', '%F0%28%8C%28', '\u202e']
const places = ['/', '/tasks', '/tasks/', '/tasks/N', '/tasks/N/events', '/domains', '/domains/N', '/domains/local/images', '/domains/N/images/N', '/domains/local/images/N', '/domains/local/copies?taskId=N', '/domains/local/fixes', '/gluster/operations/N', '/agent', '/agent/config', '/healthz', '/readyz', '/login?next=N', '/docs/N', '/docs/static/N', '/N', '/tasks?state=N&kind=N&limit=N&cursor=N&idPrefix=N', '/tasks/N?dryRun=N', '/events?lastEventId=N&type=N', '//N/N', '/./N/../N', 'http://N/tasks', '*', 'N']
const methods = ['GET', 'PUT', 'PATCH', 'DELETE', 'POST', 'HEAD', 'OPTIONS', 'TRACE', 'CONNECT', 'PROPFIND', 'get', 'NONSENSE']
const fields = ['Prefer: wait=N', 'Prefer: respond-async, wait=1e9', 'If-Match: "N"', 'If-Match: *', 'If-None-Match: W/"N"', 'If-None-Match: *', 'Agent-Instance: N', 'Last-Event-ID: N', 'Content-Type: application/json', 'Content-Type: N', 'Authorization: Bearer N', 'Cookie: __Host-vdsm-tasks=N', 'Origin: N', 'Expect: 100-continue', 'Expect: N', 'Upgrade: websocket\r\nConnection: Upgrade', 'Transfer-Encoding: chunked', 'Transfer-Encoding: N', 'Content-Length: 5', 'Content-Length: -1', 'Content-Length: 99999999999', 'Range: bytes=0-N', 'Accept: N', 'X-HTTP-Method-Override: DELETE', 'Host: N', ': N', 'N']

/** Makes hostile requests, the same for the same seed. */
export class Fuzzer {
  readonly #random: () => number

  constructor (seed: number) {
    this.#random = seeded(seed)
  }

  manner (bytes: Buffer): Manner {
    return { split: this.#random() < 0.2 ? this.#int(Math.min(bytes.length, 300)) : 0, ends: this.#random() < 0.4 }
  }

  /** The bytes of one connection. */
  next (): Buffer {
    const make = this.#pick([this.#noise, this.#request, this.#request, this.#command, this.#command, this.#mutated, this.#mutated, this.#twisted, this.#twisted, this.#twisted, this.#headers, this.#chunked, this.#pipelined])
    return make.call(this)
  }

  #int (below: number): number { return Math.floor(this.#random() * below) }
  #pick<T> (from: readonly T[]): T { return from[this.#int(from.length)] as T }
  #filled (pattern: string): string { return pattern.replaceAll('N', () => this.#pick(names)) }

  #noise (): Buffer {
    return Buffer.from(Array.from({ length: this.#int(2000) }, () => this.#int(256)))
  }

  #head (method = this.#pick(methods), path = this.#filled(this.#pick(places)), body?: string, more = Array.from({ length: this.#int(4) }, () => this.#filled(this.#pick(fields)))): string {
    const length = body === undefined ? [] : [`Content-Length: ${Buffer.byteLength(body)}`, 'Content-Type: application/json']
    return [`${method} ${path} HTTP/1.1`, 'Host: localhost', 'Connection: close', ...length, ...more, '', body ?? ''].join('\r\n')
  }

  #request (): Buffer {
    return Buffer.from(this.#head())
  }

  #command (): Buffer {
    return Buffer.from(this.#head(this.#pick(['PUT', 'PUT', 'PUT', 'PATCH', 'DELETE']), this.#filled('/tasks/N?dryRun=') + this.#pick(['true', 'false']), this.#body()))
  }

  #body (): string {
    switch (this.#int(8)) {
      case 6: return this.#deep()
      case 7: return `{"kind":"storage.deleteImage","kind":"storage.mendImage","domain":"local","image":"a.raw","image":${JSON.stringify(this.#pick(names))}}`
      case 0: return '['.repeat(this.#int(50_000))
      case 1: return `{"a":${'{"a":'.repeat(this.#int(20_000))}1`
      case 2: return `{"kind":"storage.copyImage","${'x'.repeat(this.#int(60_000))}":1}`
      case 3: return `{"kind":"storage.createImage","domain":"local","image":"f${this.#int(5)}.raw","virtualSize":${this.#pick(['1e400', '-0', '1048576', '512.5', '9007199254740993', '"1"', '[1]', '1e6', '0x10'])}}`
      case 4: return `{"__proto__":{"admin":true},"constructor":{"prototype":{"x":1}},"kind":${JSON.stringify(this.#pick(names))}}`
      default: return JSON.stringify(this.#value(0))
    }
  }

  #value (depth: number): unknown {
    if (depth > 4) return this.#pick([null, true, 0, -1, 1e308, 'x', ''])
    switch (this.#int(5)) {
      case 0: return this.#pick([null, true, false, 0, -1, 2 ** 53, 0.1, '', ...names])
      case 1: return Array.from({ length: this.#int(5) }, () => this.#value(depth + 1))
      default: {
        const keys = ['kind', 'domain', 'image', 'source', 'target', 'bandwidth', 'verify', 'virtualSize', 'volume', 'against', 'force', 'bricks', 'format', ...names]
        const members = Array.from({ length: this.#int(6) }, () => [this.#pick(keys), this.#value(depth + 1)])
        const kind = this.#pick(['storage.copyImage', 'storage.mendImage', 'storage.createImage', 'storage.deleteImage', 'storage.verifyImage', 'gluster.stopVolumeRebalance', ...names])
        return Object.fromEntries(depth === 0 ? [['kind', kind], ...members] : members)
      }
    }
  }

  /** JSON that is whole, but goes down a long way, or is long. */
  #deep (): string {
    const depth = this.#int(60_000)
    const [open, close] = this.#pick([['[', ']'], ['{"a":', '}'], ['[[],', ']'], ['{"__proto__":', '}']] as const)
    return this.#pick([`${open.repeat(depth)}1${close.repeat(depth)}`, `"${'\\u0000'.repeat(depth)}"`, `[${'1,'.repeat(depth)}1]`, '9'.repeat(depth), `{"kind":"storage.deleteImage","domain":"local","image":${open.repeat(depth)}1${close.repeat(depth)}}`])
  }

  /** A request that the document allows, as the bytes of one. */
  #valid (change: (body: unknown) => unknown = body => body): string {
    const { method, path, query, headers, bodies } = this.#pick(validRequests)
    const search = query.filter(() => this.#random() < 0.5).map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join('&')
    const some = headers.filter(() => this.#random() < 0.5).map(([name, value]) => `${name}: ${value}\r\n`).join('')
    const body = bodies.length === 0 ? undefined : change(this.#pick(bodies))
    const text = body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body)
    return this.#head(method, search === '' ? path : `${path}?${search}`, text, []).replace('\r\n\r\n', `\r\n${some}\r\n`)
  }

  /** A valid request of any route in which one thing is something else: a value, a name, a part of the address, a header. */
  #twisted (): Buffer {
    const text = this.#valid(body => typeof body === 'object' && body !== null ? this.#twist(body) : body)
    const name = this.#pick(names)
    return Buffer.from(this.#pick([
      () => text,
      () => text.replace(/(?<=^\w+ \/\w+\/)[^/? ]+/, name),
      () => text.replace(/(?<=^\w+ .*[=/])[^/?&= ]+(?= HTTP)/, name),
      () => text.replace(/(?<=^\w+ [^ ?]*)(?=[? ])/, `?${Buffer.from(name).toString('hex').replace(/../g, '%$&')}=${name}&`),
      () => text.replace(/^\w+/, this.#pick(methods)),
      () => text.replace('\r\n\r\n', `\r\n${this.#filled(this.#pick(fields))}\r\n\r\n`),
      () => text.replace(/(?<=\r\n(?:prefer|if-match|if-none-match|agent-instance): ).*/, name.repeat(this.#int(50)))
    ])(), this.#pick(['utf8', 'utf8', 'latin1']))
  }

  #twist (body: object): object {
    const copy = structuredClone(body) as Record<string, unknown>
    const key = this.#pick(Object.keys(copy))
    const inner = copy[key]
    if (typeof inner === 'object' && inner !== null && !Array.isArray(inner) && this.#random() < 0.7) return { ...copy, [key]: this.#twist(inner) }
    if (this.#random() < 0.2) delete copy[key]
    else if (this.#random() < 0.2) copy[this.#pick(names)] = copy[key]
    else copy[key] = this.#pick<() => unknown>([() => this.#value(3), () => this.#pick(names), () => [inner, inner], () => ({ [this.#pick(names)]: inner }), () => String(inner), () => this.#pick([-1, 0, 0.5, 2 ** 53, 512, true, null])])()
    return copy
  }

  /** A body in chunks that are not what they say. */
  #chunked (): Buffer {
    const body = this.#random() < 0.5 ? '{"kind":"storage.mendImage","domain":"local","image":"a.raw"}' : this.#deep()
    const size = this.#pick([1, 3, 1000])
    const chunks = Array.from({ length: Math.min(200, Math.ceil(body.length / size)) }, (_, index) => body.slice(index * size, (index + 1) * size))
    const extension = this.#pick(['', '', ';a=b', `;${'x'.repeat(this.#int(20_000))}`, ' ', '\t', ';\n'])
    const lines = chunks.map(chunk => `${this.#random() < 0.98 ? chunk.length.toString(16) : this.#pick(['-1', '0x5', 'g', 'ffffffffffffffff', '', '00000000000005', '+5'])}${extension}\r\n${chunk}${this.#random() < 0.98 ? '\r\n' : '\n'}`)
    const end = this.#pick(['0\r\n\r\n', '0\r\nHost: evil.example\r\nContent-Length: 5\r\n\r\n', '0\r\n', '', `0\r\n${'X: y\r\n'.repeat(this.#int(3000))}\r\n`])
    const coding = this.#pick(['Transfer-Encoding: chunked', 'Transfer-Encoding: chunked', 'Transfer-Encoding: chunked, identity', 'Transfer-Encoding: xchunked', 'Transfer-Encoding:\x0bchunked', 'Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked', 'Transfer-Encoding : chunked'])
    return Buffer.from(`PUT /tasks/c?dryRun=true HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n${coding}\r\n\r\n${lines.join('')}${end}`)
  }

  /** A valid request of which some bytes are lost, doubled or others. */
  #mutated (): Buffer {
    let bytes = Buffer.from(this.#valid())
    for (let times = 1 + this.#int(5); times > 0; times--) {
      const at = this.#int(bytes.length)
      const length = this.#int(10)
      const [before, piece, after] = [bytes.subarray(0, at), bytes.subarray(at, at + length), bytes.subarray(at + length)]
      bytes = Buffer.concat([before, ...this.#pick([[], [piece, piece], [Buffer.from([this.#int(256)]), piece], [Buffer.from(piece).reverse()]]), after])
    }
    return bytes
  }

  #headers (): Buffer {
    const count = this.#int(3000)
    return Buffer.from(`GET /tasks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${`X-${'y'.repeat(this.#int(50))}: ${'z'.repeat(this.#int(200))}\r\n`.repeat(count)}\r\n`)
  }

  /** Several on one connection, also such as two servers would cut at different places. */
  #pipelined (): Buffer {
    const smuggled = 'PUT /tasks/s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG'
    const chunks = `PUT /tasks/k HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n${this.#pick(['5', 'ffffffffff', '-1', '5;x=y', '0x5', ''])}\r\n{"a":\r\n0\r\n\r\n`
    return Buffer.from(this.#pick([smuggled, chunks, this.#head().replace('Connection: close\r\n', '').repeat(1 + this.#int(20))]) + this.#head())
  }
}

/** What may be answered: refusals and successes, never "should not have happened". */
const serverErrors = new Set(['501', '502', '503', '504', '505', '507'])

/** How to send the bytes of one connection. */
export interface Manner {
  /** After how many of them to pause. */
  split: number
  /** Whether the client says that nothing more will come; then it gets only what is answered at once. */
  ends: boolean
}

/** Sends bytes, reads what comes for a moment, and judges it. */
export async function attack (port: number, bytes: Buffer, { split, ends }: Manner): Promise<Finding | undefined> {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => {})
  let got = ''
  socket.setEncoding('latin1').on('data', (text: string) => { if (got.length < 100_000) got += text })
  // not once(): a reset is no failure of the agent's
  const closed = new Promise(resolve => { socket.once('close', resolve) })
  // a stream does not end by itself, and half a request waits for the rest of it
  const timer = setTimeout(() => { socket.destroy() }, 300)
  const finish = (rest: Buffer) => {
    if (ends) socket.end(rest)
    else socket.write(rest)
  }
  if (split > 0) {
    socket.setNoDelay().write(bytes.subarray(0, split))
    setImmediate(() => { finish(bytes.subarray(split)) })
  } else finish(bytes)
  await closed
  clearTimeout(timer)
  for (const [, status = ''] of got.matchAll(/HTTP\/1\.1 (\d{3}) /g)) {
    if (status.startsWith('5') && !serverErrors.has(status)) return { sent: bytes.toString('latin1'), got, why: `it answered ${status}` }
  }
  return undefined
}
