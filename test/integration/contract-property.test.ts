import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import { createParser } from 'eventsource-parser'
import fc, { type Arbitrary } from 'fast-check'
import t, { type Test } from 'tap'
import type { ErrorCode } from '../../src/errors.ts'
import { makeDirectory, startAgent } from '../helpers/built-agent.ts'

// Every operation of the committed document, sent what the document allows and what it does not, against the agent as users run it.

t.setTimeout(180_000)

/** Bounds a run on a slow machine; on others all requests fit well. */
const limits = { numRuns: 60, interruptAfterTimeLimit: 10_000 }

/** So many requests at the same time in each run. */
const together = { minLength: 5, maxLength: 5 }

const maxBodyBytes = 16 * 1024
const KiB = 1024

interface Schema {
  $ref?: string
  type?: string
  oneOf?: Schema[]
  anyOf?: Schema[]
  const?: unknown
  enum?: unknown[]
  pattern?: string
  maxLength?: number
  minimum?: number
  maximum?: number
  multipleOf?: number
  minItems?: number
  items?: Schema
  properties?: Record<string, Schema>
  required?: string[]
}
interface Parameter { name: string, in: 'path' | 'query' | 'header', schema: Schema }
interface Content { content?: Record<string, { schema: Schema }> }
interface Operation { operationId: string, parameters?: Parameter[], requestBody?: Required<Content>, responses: Record<string, Content> }
interface Document { paths: Record<string, Record<string, Operation>>, components: { schemas: Record<string, Schema> } }

const document: Document = JSON.parse(await readFile(fileURLToPath(new URL('../../openapi/openapi.json', import.meta.url)), 'utf8'))

// What is sent.

/** Text that has broken programs before. */
const nastyText = fc.oneof(
  fc.constantFrom(
    '', ' ', '.', '..', '../../etc/passwd', '..\\..', '%2e%2e', '%2e%2e%2f', '%252e%252e%252f', 'a/b', '.vdsm-tasks', 'domain.json', '~', '*', '-rf', '--help',
    '__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty', 'then', '$ref',
    '\0', 'a.raw\0', 'a\nb', '\r\nx: y', '\u202egnp.raw', 'e\u0301', '\ud83d\ude80', '\ud83d', '\ufeff', '\uffff',
    'null', 'true', 'NaN', '-0', '1e400', '0x10', '9007199254740993', '999999999999999999999999', '1.5', '-1',
    '"', '\'', '<script>', '$(id)', ';', ',', 'a'.repeat(201), 'a'.repeat(256), 'a'.repeat(3000)
  ),
  fc.string({ unit: 'binary', maxLength: 30 })
)

/** Such text in an address, encoded by nobody. */
const rawTricks = ['%2e%2e', '%2E%2E%2F%2e%2e', '..', '.', '%2F', '%5c', '%00', '%', '%zz', '%C0%AF', '%ff', '%25', '%252e', ';a=b', 'a%0d%0ab', '%F0%9F%9A%80']

const deep = (depth: number): unknown => depth === 0 ? 'end' : [deep(depth - 1)]
const nastyJson: Arbitrary<unknown> = fc.oneof(
  nastyText,
  fc.constantFrom<unknown>(null, true, 0, -1, 0.5, 2 ** 53, -(2 ** 53), 1e308, [], {}, ['local'], { domain: 'local' }, deep(500), Array(1000).fill(0))
)

/** Bodies that are not even what JSON.stringify makes. */
const nastyBodies = [
  '', ' ', 'null', '[]', '"text"', '0', '{', '{"kind"', '{"kind":}', 'undefined', '{}{}', '\ufeff{}', '\0', '{"a":1e999}', '{"kind":"storage.deleteImage",}', '{"bandwidth":1e999}',
  '['.repeat(5000), '['.repeat(5000) + ']'.repeat(5000), '{"a":'.repeat(2000) + '1' + '}'.repeat(2000),
  '{"__proto__":{"kind":"storage.deleteImage"}}', '{"kind":"storage.deleteImage","domain":"local","image":"a.raw","__proto__":{"x":1}}', '{"constructor":{"prototype":{"x":1}}}',
  '{"kind":"storage.createImage","kind":"storage.deleteImage","domain":"local","image":"a.raw","image":"../a.raw"}',
  JSON.stringify({ kind: 'x'.repeat(maxBodyBytes) }), ' '.repeat(maxBodyBytes + 1), '{"bandwidth":1' + '0'.repeat(5000) + '}'
]

const often = <T>(likely: Arbitrary<T>, other: Arbitrary<T>) => fc.oneof({ weight: 6, arbitrary: likely }, { weight: 1, arbitrary: other })
const images = ['a.raw', 'b.qcow2', 'c.img', 'd.raw', 'e.qcow2']

/** What leads somewhere, by the name of a member or parameter; few, so that requests meet each other. */
const likely: Record<string, Arbitrary<unknown>> = {
  id: fc.oneof(fc.constantFrom('slow', 't1', 't2', 't3'), fc.nat(99).map(number => `n${number}`)),
  taskId: fc.constantFrom('slow', 't1', 't2'),
  domain: often(fc.constant('local'), fc.constantFrom('gone', 'absent')),
  image: often(fc.constantFrom(...images), fc.constantFrom('broken.qcow2', 'link.raw', 'folder.raw', 'unknown.xyz', 'absent.raw')),
  volume: often(fc.constant('v0'), fc.constantFrom('r1', 'nope')),
  bricks: often(fc.constant('node2:/srv/1/v0'), fc.constant('node9:/srv/1/v0')),
  operationId: fc.constantFrom('599f20be-c518-4fb4-b2a4-0941018bed24', '00000000-0000-4000-8000-000000000000'),
  // a copy that takes for ever would keep others waiting
  bandwidth: fc.constantFrom(2 ** 20, 2 ** 30),
  // what is created and then copied has to fit on any disk
  virtualSize: fc.integer({ min: 0, max: 512 }).map(sectors => sectors * 512)
}

/** Values that a schema allows. */
function allowedBy (schema: Schema, name = ''): Arbitrary<unknown> {
  const { $ref, oneOf, anyOf, type, properties = {}, required = [], items } = schema
  if ($ref !== undefined) return allowedBy(document.components.schemas[$ref.split('/').at(-1) ?? ''] ?? assert.fail($ref), name)
  const alternatives = oneOf ?? anyOf
  if (alternatives !== undefined) return fc.oneof(...alternatives.map(alternative => allowedBy(alternative, name)))
  if ('const' in schema) return fc.constant(schema.const)
  if (schema.enum !== undefined) return fc.constantFrom(...schema.enum)
  const known = likely[name]
  switch (type) {
    case 'null': return fc.constant(null)
    case 'boolean': return fc.boolean()
    case 'array': return fc.uniqueArray(allowedBy(items ?? {}, name), { minLength: schema.minItems ?? 0, maxLength: 3 })
    case 'object': return fc.record(Object.fromEntries(Object.entries(properties).map(([key, member]) => [key, allowedBy(member, key)])), { requiredKeys: required })
    case 'integer': {
      const { minimum = -1000, maximum = 1e308, multipleOf = 1 } = schema
      const any = fc.integer({ min: minimum, max: Math.min(maximum, 2 ** 20) }).map(number => number - number % multipleOf)
      return often(known ?? any, fc.constant(maximum - maximum % multipleOf))
    }
    case 'string': {
      const any = schema.pattern === undefined ? fc.string({ maxLength: Math.min(schema.maxLength ?? 50, 50) }) : fc.stringMatching(new RegExp(schema.pattern))
      return known === undefined ? any : often(known, any)
    }
    default: throw new Error(`no values for ${JSON.stringify(schema)}: teach allowedBy()`)
  }
}

/** A value with one thing in it that is not as it was. */
function spoiled (value: Arbitrary<unknown>): Arbitrary<unknown> {
  return fc.tuple(value, fc.nat(), fc.constantFrom('replace', 'remove', 'add'), nastyText, nastyJson).map(([value, which, how, name, nasty]) => {
    const copy: unknown = structuredClone(value)
    const places = placesIn(copy)
    const place = places[which % (places.length + 1)]
    if (place === undefined) return nasty
    const { holder, key } = place
    if (how === 'remove') delete holder[key]
    // defined and not set, for the sake of __proto__
    else Object.defineProperty(holder, how === 'add' ? name : key, { value: nasty, enumerable: true, configurable: true, writable: true })
    return copy
  })
}

function placesIn (value: unknown): Array<{ holder: Record<string, unknown>, key: string }> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return []
  const holder = value as Record<string, unknown>
  return Object.keys(holder).flatMap(key => [{ holder, key }, ...placesIn(holder[key])])
}

/** What a request says in one place. */
interface Part {
  name: string
  text: string
  /** Whether the document allows it there, as far as it tells. */
  allowed: boolean
  /** To be sent as it is, not encoded. */
  raw?: true
}

interface Request {
  path: Part[]
  query: Part[]
  headers: Part[]
  body?: { text: string, type?: string }
}

/** Stands for what the agent has told last: an entity tag, a run, a cursor. */
const told = '(told)'

/** Parameters whose values only the agent knows, or that have a form of their own. */
const opaque: Record<string, string[]> = {
  prefer: ['respond-async', 'wait=0', 'wait=0.5', 'respond-async, wait=1', 'wait=-1', 'wait="1"', 'handling=strict'],
  'if-match': ['*', told, `W/${told}`, '"x"', 'x', '"a", "b"', `"x", ${told}`],
  'if-none-match': ['*', told, `W/${told}`, '"x"', 'x'],
  'agent-instance': [told, 'x'],
  // only words tell what these may be
  state: ['active', 'finished', 'succeeded', 'failed,canceled', 'lost'],
  kind: ['storage.copyImage', 'storage.createImage,gluster.stopVolumeRebalance', 'storage.x'],
  runId: [told],
  cursor: [told],
  lastEventId: [told, 'x-1', '-']
}

/** Headers that any client may send, or a hostile page. */
const strangers: Array<[name: string, text: string]> = [
  ['host', 'evil.example'], ['origin', 'http://evil.example'], ['origin', 'null'], ['accept', 'text/html'], ['range', 'bytes=0-1'],
  ['last-event-id', told], ['last-event-id', 'x'], ['x-forwarded-host', 'evil.example'], ['x-http-method-override', 'DELETE']
]

/** How a parameter is sent: as the document says; or, if wild, as it may be or not. */
function partsOf ({ name, in: place, schema }: Parameter, wild: boolean): Arbitrary<Part[]> {
  const part = (text: string): Part => ({ name, text, allowed: place === 'path' && flaw(schema, text) === undefined })
  const asText = (value: unknown) => typeof value === 'string' ? value : JSON.stringify(value)
  const good = allowedBy(schema, name).map(value => [value].flat().map(one => ({ ...part(asText(one)), allowed: true })))
  const bad = nastyText.map(text => [part(text)])
  if (place === 'path') return wild ? fc.oneof(good, good, bad, rawTrick(name)) : good
  const known = opaque[name]
  const given = known === undefined ? good : fc.constantFrom(...known).map(text => [part(text)])
  const absent = { weight: place === 'header' ? 9 : 3, arbitrary: fc.constant<Part[]>([]) }
  if (!wild) return fc.oneof(absent, { weight: 2, arbitrary: given })
  return fc.oneof(absent, given, bad, ...place === 'query' ? [given.map(given => [...given, ...given].map(one => ({ ...one, allowed: false })))] : [])
}

function rawTrick (name: string): Arbitrary<Part[]> {
  return fc.constantFrom(...rawTricks).map(text => [{ name, text, allowed: false, raw: true }])
}

/** Requests for an operation: most are what the document allows, the others nearly. */
function requestsOf (method: string, operation: Operation): Arbitrary<Request> {
  return fc.oneof({ weight: 3, arbitrary: someRequests(method, operation, false) }, { weight: 2, arbitrary: someRequests(method, operation, true) })
}

function someRequests (method: string, { parameters = [], requestBody }: Operation, wild: boolean): Arbitrary<Request> {
  const at = (place: Parameter['in'], strange?: Arbitrary<Part[]>) => fc.tuple(
    ...parameters.filter(parameter => parameter.in === place).map(parameter => partsOf(parameter, wild)),
    wild && strange !== undefined ? fc.oneof({ weight: 3, arbitrary: fc.constant<Part[]>([]) }, strange) : fc.constant<Part[]>([])
  ).map(parts => parts.flat())
  return fc.record({
    path: at('path'),
    query: at('query', fc.oneof(fc.tuple(nastyText, nastyText).map(([name, text]) => [{ name, text, allowed: false }]), rawTrick('x'))),
    headers: at('header', fc.constantFrom(...strangers).map(([name, text]) => [{ name, text, allowed: false }])),
    ...(requestBody !== undefined && { body: bodiesOf(requestBody, wild) }),
    // generated clients send the type of an empty body, too
    ...(method === 'delete' && { body: fc.constant({ text: '' }) })
  })
}

function bodiesOf ({ content }: Required<Content>, wild: boolean): Arbitrary<NonNullable<Request['body']>> {
  const good = allowedBy(content['application/json']?.schema ?? {})
  const json = (bodies: Arbitrary<unknown>) => bodies.map(body => ({ text: JSON.stringify(harmless(body)) }))
  if (!wild) return json(good)
  const types = ['text/plain', 'application/xml', 'multipart/form-data', 'application/json; charset=utf-16', 'application/merge-patch+json', 'application/x-www-form-urlencoded', 'x', '']
  return fc.oneof(
    { weight: 3, arbitrary: json(good) },
    { weight: 4, arbitrary: json(spoiled(good)) },
    { weight: 2, arbitrary: fc.constantFrom(...nastyBodies).map(text => ({ text })) },
    { weight: 1, arbitrary: fc.tuple(json(good), fc.constantFrom(...types)).map(([body, type]) => ({ ...body, type })) }
  )
}

/** A huge image is a sparse one, of a name from which nobody copies: this is not to fill somebody's disk. */
function harmless (body: unknown): unknown {
  if (typeof body !== 'object' || body === null || !('virtualSize' in body) || !(Number(body.virtualSize) > 2 ** 20)) return body
  return { ...body, image: 'huge.raw', allocation: 'sparse' }
}

/**
 * Puts a program in the place of gluster that answers as a cluster once did, whatever has been done to it since: what is made up here
 * must not reach a cluster that this host may belong to.
 */
async function pretendCluster (t: Test, directory: string): Promise<void> {
  const answers = {
    'pool list': 'down3-pool-n1',
    'volume info': 'rb3-info',
    'volume info v0': 'rb3-info',
    'volume info *': 'info-nosuchvol',
    'volume status all tasks': 'rb3-tasks',
    'volume status * tasks': 'rb3-tasks',
    'volume status * detail': 'rb3-detail',
    'volume rebalance v0 start': 'rb3-rebal-start',
    'volume remove-brick v0 * start': 'rb3-start',
    'volume remove-brick v0 * status': 'rb3-status',
    'volume remove-brick v0 * stop': 'rb3-stop',
    'volume remove-brick v0 * commit': 'rb3-commit',
    '*': 'glusterd-down'
  }
  const captures = fileURLToPath(new URL('../fixtures/gluster', import.meta.url))
  const cases = Object.entries(answers).map(([command, capture]) => `*' ${command.replaceAll('*', "'*'")}') exec cat '${captures}/${capture}.xml';;`)
  const program = join(directory, 'bin', 'gluster')
  await mkdir(join(directory, 'bin'))
  await writeFile(program, `#!/bin/sh\ncase "$*" in\n${cases.join('\n')}\nesac\n`, { mode: 0o755 })
  const { PATH = '' } = process.env
  process.env['PATH'] = `${join(directory, 'bin')}:${PATH}`
  t.teardown(() => { process.env['PATH'] = PATH })
}

// What is answered.

interface Answer {
  status: number
  headers: IncomingMessage['headers']
  text: string
  frames: unknown[]
}

const ajv = new Ajv2020({ strict: false })
addFormats.default(ajv)
const validators = new Map<string, ValidateFunction>()

/** Why a value is not as a schema of the document says; undefined if it is. */
function flaw (schema: Schema, value: unknown): string | undefined {
  const key = JSON.stringify(schema)
  const validate = validators.get(key) ?? ajv.compile({ components: document.components, ...schema })
  validators.set(key, validate)
  return validate(value) ? undefined : ajv.errorsText(validate.errors)
}

/** What the storage may answer with 500. Anything else is a fault of the agent. */
const storageFailures: ReadonlySet<unknown> = new Set<ErrorCode>(['storage-failed', 'storage-process-died', 'copy-failed', 'verification-failed', 'lease-lost'])

class Session {
  readonly address: URL
  instance = ''
  readonly #agent = new Agent({ keepAlive: true })
  readonly #told = new Map<string, string>()

  constructor (address: string) {
    this.address = new URL(address)
  }

  close (): void {
    this.#agent.destroy()
  }

  /** Sends a request and reads its answer; of an event stream what comes until all is told, then it goes away. */
  async send (method: string, path: string, headers: Record<string, string> = {}, body?: string): Promise<Answer> {
    const { hostname, port } = this.address
    const length = body === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }
    const sent = httpRequest({ hostname, port, method, path, agent: this.#agent, headers: { ...length, ...headers }, signal: AbortSignal.timeout(20_000) })
    sent.end(body)
    const [response]: IncomingMessage[] = await once(sent, 'response')
    assert.ok(response)
    const answer: Answer = { status: response.statusCode ?? 0, headers: response.headers, text: '', frames: [] }
    response.setEncoding('utf8')
    let complete = false
    const parser = createParser({
      onEvent: ({ id, event, data }) => {
        answer.frames.push({ event, ...(id !== undefined && { id }), data: JSON.parse(data) })
        complete ||= event === 'synced'
        if (id !== undefined) this.#told.set('lastEventId', id)
      }
    })
    const isStream = response.headers['content-type'] === 'text/event-stream'
    for await (const chunk of response) {
      answer.text += chunk
      if (isStream) parser.feed(chunk)
      if (complete) break
    }
    return answer
  }

  /** Sends what was generated, and remembers what the answer tells. */
  async perform (method: string, template: string, { path, query, headers, body }: Request): Promise<Answer> {
    const answer = await this.send(method.toUpperCase(), this.#address(template, path, query), {
      ...Object.fromEntries(headers.map(part => [part.name, this.#fill(part).replaceAll(/[^\t\x20-\x7e\x80-\xff]/g, '').trim()])),
      ...(body?.type !== undefined && { 'content-type': body.type })
    }, body?.text)
    const { etag } = answer.headers
    if (etag !== undefined) this.#told.set('if-match', etag).set('if-none-match', etag)
    for (const [, name = '', value = ''] of answer.text.matchAll(/"(runId|next|lastEventId)":"([^"]*)"/g)) this.#told.set(name === 'next' ? 'cursor' : name, value)
    return answer
  }

  #address (template: string, path: Part[], query: Part[]): string {
    // an encoder makes replacement characters of lone surrogates
    const encode = (text: string) => encodeURIComponent(Buffer.from(text).toString())
    const value = (part: Part) => part.raw === true ? part.text : encode(this.#fill(part))
    const address = path.reduce((address, part) => address.replace(`{${part.name}}`, () => value(part)), template)
    return query.length === 0 ? address : `${address}?${query.map(part => `${encode(part.name)}=${value(part)}`).join('&')}`
  }

  #fill ({ name, text }: Part): string {
    return text.replace(told, () => this.#told.get(name.replace('last-event-id', 'lastEventId')) ?? 'none')
  }
}

/** Throws if an answer is not what the document says of this request. */
function check (operation: Operation, { path, query, headers, body }: Request, answer: Answer, instance: string): void {
  const { status, text } = answer
  const at = `${status} ${text.slice(0, 500)}`
  const documented = operation.responses[status] ?? assert.fail(`a status that is not documented: ${at}`)
  assert.equal(answer.headers['agent-instance'], instance, `Agent-Instance of ${at}`)
  const type = answer.headers['content-type']?.split(';')[0] ?? ''
  if (documented.content === undefined) assert.equal(text, '', 'a body that is not documented')
  else {
    const { schema } = documented.content[type] ?? assert.fail(`a media type that is not documented: ${type} of ${at}`)
    for (const value of type === 'text/event-stream' ? answer.frames : [type === 'text/plain' ? text : JSON.parse(text)]) {
      const flawed = flaw(schema, value)
      assert.ok(flawed === undefined, `not as its schema: ${flawed} in ${at}`)
    }
  }
  if (type === 'text/event-stream') assert.ok(answer.frames.length > 0, 'a stream without a frame')
  const problem = type === 'application/problem+json' ? JSON.parse(text) : {}
  if (type === 'application/problem+json') assert.equal(problem.status, status, at)
  if (status === 500) assert.ok(storageFailures.has(problem.code), at)
  // a media type of its own may make another body of the same text
  const bodyIs = operation.requestBody === undefined ? 'allowed' : body?.type !== undefined ? 'unknown' : judge(operation.requestBody, body?.text ?? '')
  if (bodyIs === 'forbidden' || path.some(({ allowed }) => !allowed)) assert.ok(status >= 400, `taken although the document forbids it: ${at}`)
  // only what a schema refuses has a pointer to what is wrong
  if (bodyIs === 'allowed' && [...path, ...query, ...headers].every(({ allowed }) => allowed)) assert.equal(problem.pointer, undefined, `refused although the document allows it: ${at}`)
}

function judge ({ content }: Required<Content>, text: string): 'allowed' | 'forbidden' {
  try {
    return flaw(content['application/json']?.schema ?? {}, JSON.parse(text)) === undefined ? 'allowed' : 'forbidden'
  } catch {
    return 'forbidden' // No JSON at all.
  }
}

t.test('the agent keeps to its document', async t => {
  const directory = await makeDirectory(t)
  const folder = join(directory, 'images')
  await pretendCluster(t, directory)
  const { address } = await startAgent(t, directory, {
    domains: [{ id: 'local', path: './images', create: true }, { id: 'gone', path: './gone' }],
    copy: { maxConcurrent: 8 },
    http: { maxBodyBytes }
  })
  const session = new Session(address)
  t.teardown(() => { session.close() })
  const { 'agent-instance': instance } = (await session.send('GET', '/healthz')).headers
  assert.ok(typeof instance === 'string')

  await writeFile(join(folder, 'seed.raw'), randomBytes(8192 * KiB))
  await writeFile(join(folder, 'broken.qcow2'), 'QFI\xfb and nothing else')
  await symlink('/etc/passwd', join(folder, 'link.raw'))
  await mkdir(join(folder, 'folder.raw'))
  const put = async (id: string, body: object, headers = {}) => await session.send('PUT', `/tasks/${id}`, headers, JSON.stringify(body))
  for (const image of images.slice(0, 3)) await put(`create-${image}`, { kind: 'storage.createImage', domain: 'local', image, virtualSize: 64 * KiB })

  /** Sees to it that there is a task that runs: by itself it would take hours. */
  const beBusy = async (image: string) => {
    await session.send('DELETE', '/tasks/slow')
    const { headers: { etag } } = await session.send('GET', '/tasks/slow', { prefer: 'wait=10' })
    if (etag !== undefined) await session.send('DELETE', '/tasks/slow', { 'if-match': etag })
    const { text } = await put('slow', { kind: 'storage.copyImage', source: { domain: 'local', image: 'seed.raw' }, target: { domain: 'local', image }, bandwidth: KiB }, { prefer: 'wait=15' })
    assert.equal(JSON.parse(text).state, 'running', text)
  }

  for (const [path, methods] of Object.entries(document.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      t.test(`${operation.operationId}, whatever it is asked`, async t => {
        await beBusy(`slow-${operation.operationId}.raw`)
        const seen = new Set<number>()
        await fc.assert(fc.asyncProperty(fc.array(requestsOf(method, operation), together), async requests => {
          await Promise.all(requests.map(async request => {
            const answer = await session.perform(method, path, request)
            seen.add(answer.status)
            check(operation, request, answer, instance)
          }))
        }), limits)
        // the host lacks a domain, and is not ready
        t.ok(operation.operationId === 'getReadiness' || [...seen].some(status => status < 300), `some were answered: ${[...seen].sort().join(', ')}`)
        t.ok([...seen].some(status => status >= 400), `some were refused: ${[...seen].sort().join(', ')}`)
      })
    }
  }

  t.test('a running copy survives every bandwidth that is accepted', async t => {
    await beBusy('tuned.raw')
    for (const bandwidth of [1, Number.MAX_SAFE_INTEGER, 1e308]) {
      const { status } = await session.send('PATCH', '/tasks/slow', {}, JSON.stringify({ bandwidth }))
      t.ok(status === 200 || status === 400, `${status}: ${bandwidth}`)
    }
    const { text } = await session.send('GET', '/tasks/slow', { prefer: 'wait=15' })
    t.match(JSON.parse(text), { state: 'succeeded' })
  })

  t.test('it lives, and it still copies', async t => {
    const request = { kind: 'storage.copyImage', source: { domain: 'local', image: 'seed.raw' }, target: { domain: 'local', image: 'last.raw' } }
    const { status, headers } = await put('last', request)
    t.equal(status, 202)
    t.equal(headers['agent-instance'], instance, 'and it is the one that was started')
    const { text } = await session.send('GET', '/tasks/last', { prefer: 'wait=10' })
    t.match(JSON.parse(text), { state: 'succeeded' })
    t.strictSame(await readFile(join(folder, 'last.raw')), await readFile(join(folder, 'seed.raw')))
  })
})
