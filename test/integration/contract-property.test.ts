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
import t from 'tap'
import type { ErrorCode } from '../../src/errors.ts'
import { makeDirectory, startAgent } from '../helpers/built-agent.ts'

// Every operation of the committed document, sent what the document allows and what it does not, against the agent as users run it.

t.setTimeout(180_000)

/** Bounds a run on a slow machine; on others all requests fit well. */
const limits = { numRuns: 300, interruptAfterTimeLimit: 15_000 }

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
const images = ['a.raw', 'b.qcow2', 'c.img', 'd.raw', 'e.qcow2', 'slow.raw']

/** What leads somewhere, by the name of a member or parameter; few, so that requests meet each other. */
const likely: Record<string, Arbitrary<unknown>> = {
  id: fc.constantFrom('t1', 't2', 't3', 't4', 't5', 'slow'),
  domain: often(fc.constant('local'), fc.constantFrom('gone', 'absent')),
  image: often(fc.constantFrom(...images), fc.constantFrom('broken.qcow2', 'link.raw', 'folder.raw', 'unknown.xyz', 'absent.raw')),
  state: fc.constantFrom('active', 'finished', 'succeeded', 'failed,canceled'),
  // a copy that takes for ever would keep others waiting
  bandwidth: fc.constantFrom(2 ** 20, 2 ** 30, Number.MAX_SAFE_INTEGER),
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
    case 'array': return fc.array(allowedBy(items ?? {}, name), { maxLength: 3 })
    case 'object': return fc.record(Object.fromEntries(Object.entries(properties).map(([key, member]) => [key, allowedBy(member, key)])), { requiredKeys: required })
    case 'integer': return known ?? fc.integer({ min: schema.minimum ?? -1000, max: Math.min(schema.maximum ?? 1000, 2 ** 31 - 1) }).map(number => number * (schema.multipleOf ?? 1))
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

/** What a request says in one place, and whether the document allows it there. */
interface Part { name: string, text: string, allowed: boolean }

interface Request {
  path: Part[]
  query: Part[]
  headers: Part[]
  body?: { text: string, type?: string }
}

/** Stands for the value that the agent has told last: an entity tag, a run, a cursor. */
const told = '(told)'

const asText = (value: unknown) => typeof value === 'string' ? value : JSON.stringify(value)

/** What a parameter may be sent as; encoded as its place demands. */
function parts ({ name, in: place, schema }: Parameter): Arbitrary<Part[]> {
  const encode = place === 'header' ? headerText : (text: string) => encodeURIComponent(wellFormed(text))
  const good = allowedBy(schema, name).map(value => [value].flat().map(one => ({ name, text: encode(asText(one)), allowed: true })))
  const bad = nastyText.map(text => [{ name, text: encode(text), allowed: false }])
  if (place === 'path') return fc.oneof({ weight: 8, arbitrary: good }, { weight: 2, arbitrary: bad }, { weight: 1, arbitrary: fc.constantFrom(...rawTricks).map(text => [{ name, text, allowed: false }]) })
  const absent = fc.constant<Part[]>([])
  const special: Record<string, string[]> = {
    prefer: ['respond-async', 'wait=0', 'wait=0.5', 'respond-async, wait=1', 'wait=-1', 'wait="1"', 'handling=strict'],
    'if-match': ['*', told, `W/${told}`, '"x"', 'x', '"a", "b"', `"x", ${told}`],
    'if-none-match': ['*', told, `W/${told}`, '"x"', 'x'],
    'agent-instance': [told, 'x'],
    runId: [told],
    cursor: [told],
    lastEventId: [told, 'x-1', '-']
  }
  const opaque = special[name]
  const given = opaque === undefined ? good : fc.constantFrom(...opaque).map(text => [{ name, text, allowed: false }])
  return fc.oneof({ weight: 6, arbitrary: absent }, { weight: 4, arbitrary: given }, { weight: 1, arbitrary: bad }, ...(name === 'prefer' ? [] : [{ weight: 1, arbitrary: good.map(parts => [...parts, ...parts].map(part => ({ ...part, allowed: false }))) }]))
}

/** Lone surrogates become the replacement character, as in every encoder. */
function wellFormed (text: string): string {
  return Buffer.from(text).toString()
}

/** What of a text a header can carry. */
function headerText (text: string): string {
  return text.replaceAll(/[^\t\x20-\x7e\x80-\xff]/g, '').trim()
}

const strangers: Part[] = [
  { name: 'host', text: 'evil.example', allowed: false },
  { name: 'origin', text: 'http://evil.example', allowed: false },
  { name: 'origin', text: 'null', allowed: false },
  { name: 'accept', text: 'text/html', allowed: true },
  { name: 'range', text: 'bytes=0-1', allowed: true },
  { name: 'last-event-id', text: told, allowed: true },
  { name: 'last-event-id', text: 'x', allowed: true }
]

/** Requests for an operation: most are what the document allows, or nearly. */
function requestsOf (method: string, { parameters = [], requestBody }: Operation): Arbitrary<Request> {
  const at = (place: Parameter['in']) => fc.tuple(...parameters.filter(({ in: where }) => where === place).map(parts)).map(parts => parts.flat())
  const strangeQuery = fc.tuple(nastyText, nastyText).map(([name, text]) => [{ name: encodeURIComponent(wellFormed(name)), text: encodeURIComponent(wellFormed(text)), allowed: false }])
  const some = (strange: Arbitrary<Part[]>) => fc.oneof({ weight: 12, arbitrary: fc.constant<Part[]>([]) }, { weight: 1, arbitrary: strange })
  const joined = (one: Arbitrary<Part[]>, other: Arbitrary<Part[]>) => fc.tuple(one, other).map(parts => parts.flat())
  return fc.record({
    path: at('path'),
    query: joined(at('query'), some(fc.oneof(strangeQuery, fc.constantFrom(...rawTricks).map(text => [{ name: 'x', text, allowed: false }])))),
    headers: joined(at('header'), some(fc.constantFrom(...strangers).map(part => [part])))
  }).chain(request => requestBody === undefined
    // generated clients send the type with an empty body
    ? method === 'delete' ? fc.constantFrom<Request>(request, { ...request, body: { text: '' } }) : fc.constant<Request>(request)
    : bodiesOf(requestBody).map(body => ({ ...request, body })))
}

function bodiesOf ({ content }: Required<Content>): Arbitrary<NonNullable<Request['body']>> {
  const good = allowedBy(content['application/json']?.schema ?? {})
  const json = fc.oneof({ weight: 6, arbitrary: good }, { weight: 3, arbitrary: spoiled(good) }).map(body => ({ text: JSON.stringify(harmless(body)) }))
  const type = fc.constantFrom('text/plain', 'application/xml', 'multipart/form-data', 'application/json; charset=utf-16', 'application/merge-patch+json', 'application/x-www-form-urlencoded', 'x', '')
  return fc.oneof({ weight: 9, arbitrary: json }, { weight: 2, arbitrary: fc.constantFrom(...nastyBodies).map(text => ({ text })) }, { weight: 1, arbitrary: fc.tuple(json, type).map(([body, type]) => ({ ...body, type })) })
}

/** A huge image is a sparse one, of a name from which nobody copies: this is not to fill somebody's disk. */
function harmless (body: unknown): unknown {
  if (typeof body !== 'object' || body === null || !('virtualSize' in body) || !(Number(body.virtualSize) > 2 ** 20)) return body
  return { ...body, image: 'huge.raw', allocation: 'sparse' }
}

// What is answered.

interface Answer {
  status: number
  headers: IncomingMessage['headers']
  text: string
  frames: unknown[]
}

const ajv = new Ajv2020({ strict: false, discriminator: true })
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
    const insert = ({ name, text }: Part) => text.replace(told, this.#told.get(name === 'if-match' || name === 'if-none-match' ? 'etag' : name) ?? 'none')
    const address = path.reduce((address, { name, text }) => address.replace(`{${name}}`, () => text), template)
    const search = query.map(part => `${part.name}=${encodeURI(decode(insert(part)))}`).join('&')
    const answer = await this.send(method.toUpperCase(), search === '' ? address : `${address}?${search}`, {
      ...Object.fromEntries(headers.map(part => [part.name, insert(part)])),
      ...(body?.type !== undefined && { 'content-type': body.type })
    }, body?.text)
    const { etag } = answer.headers
    if (etag !== undefined) this.#told.set('etag', etag)
    this.#told.set('agent-instance', this.instance)
    for (const [, name = '', value = ''] of answer.text.matchAll(/"(runId|next|lastEventId)":"([^"]*)"/g)) this.#told.set(name === 'next' ? 'cursor' : name, value)
    return answer
  }
}
