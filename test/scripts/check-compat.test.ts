import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const script = fileURLToPath(new URL('../../scripts/check-compat.mjs', import.meta.url))
const { breakingChanges, mayBreak }: {
  breakingChanges: (released: object, current: object) => string[]
  mayBreak: (released: string, current: string) => boolean
} = await import(script)

const ref = (name: string) => ({ $ref: `#/components/schemas/${name}` })
const json = (schema: object) => ({ content: { 'application/json': { schema } } })

const released = {
  openapi: '3.1.0',
  info: { title: 'a', version: '1.2.0' },
  security: [],
  components: {
    schemas: {
      Copy: {
        type: 'object',
        additionalProperties: false,
        required: ['kind', 'image'],
        properties: {
          kind: { type: 'string', enum: ['copy'] },
          image: { type: 'string', pattern: '^[a-z]+$', maxLength: 20, description: 'Its name.' },
          format: { type: 'string', enum: ['raw', 'qcow2'] },
          size: { type: 'integer', minimum: 0, maximum: 100, multipleOf: 4 },
          tags: { type: 'array', items: { type: 'string' }, maxItems: 5 }
        }
      },
      Delete: { type: 'object', additionalProperties: false, required: ['kind'], properties: { kind: { const: 'delete' } } },
      Spec: {
        type: 'object',
        required: ['kind'],
        oneOf: [ref('Copy'), ref('Delete')],
        discriminator: { propertyName: 'kind', mapping: { copy: '#/components/schemas/Copy', delete: '#/components/schemas/Delete' } }
      },
      Task: {
        type: 'object',
        additionalProperties: false,
        required: ['id', 'state', 'at'],
        properties: {
          id: { type: 'string', pattern: '^[a-z]+$', maxLength: 20 },
          state: { type: 'string', enum: ['running', 'done'] },
          at: { type: 'string', format: 'date-time' },
          count: { type: 'integer', minimum: 1 },
          links: { type: 'object', additionalProperties: { type: 'string' } },
          children: { type: 'array', items: ref('Task') },
          result: { type: 'object', additionalProperties: true }
        }
      },
      Page: { type: 'object', required: ['items'], properties: { items: { type: 'array', items: ref('Task') } } },
      Problem: { type: 'object', required: ['code'], properties: { code: { type: 'string' } } }
    }
  },
  paths: {
    '/tasks': {
      get: {
        operationId: 'listTasks',
        parameters: [
          { in: 'query', name: 'limit', schema: { type: 'integer', minimum: 1, maximum: 1000, default: 100 } },
          { in: 'query', name: 'cursor', schema: { type: 'string' } },
          { in: 'header', name: 'prefer', schema: { type: 'string' } }
        ],
        responses: { 200: json(ref('Page')), 400: { content: { 'application/problem+json': { schema: ref('Problem') } } } }
      }
    },
    '/tasks/{id}': {
      parameters: [{ in: 'path', name: 'id', required: true, schema: { type: 'string', maxLength: 20 } }],
      put: {
        operationId: 'putTask',
        requestBody: { required: true, ...json(ref('Spec')) },
        responses: {
          200: { headers: { ETag: { required: true, schema: { type: 'string' } } }, ...json({ anyOf: [ref('Task'), ref('Problem')] }) },
          202: { content: { 'application/json': { schema: ref('Task') }, 'text/event-stream': { schema: ref('Task') } } }
        }
      },
      patch: {
        operationId: 'tuneTask',
        requestBody: json({ type: 'object', properties: { bandwidth: { anyOf: [{ type: 'integer', minimum: 1 }, { type: 'null' }] }, extra: { type: 'object' } } }),
        responses: { 204: {} }
      }
    }
  }
}

/** What changes: places in the document and what is there afterwards. */
type Change = Record<string, unknown>
type Row = [title: string, change: Change, ...lines: string[]]

/** The value of a place that is there no more. */
const gone = Symbol('gone')

/** How places begin, to keep the tables readable. */
const places: Record<string, string> = {
  schemas: 'components.schemas',
  list: 'paths./tasks.get',
  put: 'paths./tasks/{id}.put',
  patch: 'paths./tasks/{id}.patch',
  bandwidth: 'paths./tasks/{id}.patch.requestBody.content.application/json.schema.properties.bandwidth',
  answer: 'paths./tasks/{id}.put.responses.200.content.application/json.schema'
}

/** The document with a change. */
function changed (document: object, change: Change): object {
  const copy = structuredClone(document)
  for (const [place, value] of Object.entries(change)) {
    const path = place.replace(/^\w+/, word => places[word] ?? word).split('.')
    const last = path.pop() ?? ''
    const parent = path.reduce<unknown>((node, key) => typeof node === 'object' && node !== null ? Reflect.get(node, key) : undefined, copy)
    if (typeof parent !== 'object' || parent === null) throw new Error(`there is no ${place}`)
    if (value !== gone) Reflect.set(parent, last, value)
    else if (!Reflect.has(parent, last)) throw new Error(`there is no ${place}`)
    else if (Array.isArray(parent)) parent.splice(Number(last), 1)
    else Reflect.deleteProperty(parent, last)
  }
  return copy
}

const breaking: Row[] = [
  ['a path is removed', { 'paths./tasks': gone }, '/tasks: removed'],
  ['an operation is removed', { patch: gone }, 'PATCH /tasks/{id}: removed'],
  ['an operation gets another name', { 'list.operationId': 'getTasks' }, 'GET /tasks: operationId is now getTasks, it was listTasks'],
  ['an operation asks for credentials', { 'list.security': [{ token: [] }] }, 'GET /tasks: a request without credentials is no longer let in'],
  ['a parameter is removed', { 'list.parameters.1': gone }, 'GET /tasks query cursor: removed'],
  ['a required parameter is added', { 'list.parameters.3': { in: 'query', name: 'host', required: true, schema: {} } }, 'GET /tasks query host: new, and required'],
  ['a parameter becomes required', { 'list.parameters.1.required': true }, 'GET /tasks query cursor: now required'],
  ['a parameter moves from the query to a header', { 'list.parameters.1.in': 'header' }, 'GET /tasks query cursor: removed'],
  ['the bounds of a parameter close in', { 'list.parameters.0.schema.minimum': 2, 'list.parameters.0.schema.maximum': 500 },
    'GET /tasks query limit: minimum is now 2, it was 1', 'GET /tasks query limit: maximum is now 500, it was 1000'],
  ['another value stands in for an absent parameter', { 'list.parameters.0.schema.default': 10 }, 'GET /tasks query limit: default is now 10, it was 100'],
  ['a parameter of a whole path gets shorter', { 'paths./tasks/{id}.parameters.0.schema.maxLength': 10 },
    // told once, at the first operation of the path
    'PUT /tasks/{id} path id: maxLength is now 10, it was 20'],
  ['a body becomes required', { 'patch.requestBody.required': true }, 'PATCH /tasks/{id} body: now required'],
  ['a body is removed', { 'patch.requestBody': gone }, 'PATCH /tasks/{id} body: removed'],
  ['a body must be of another media type', { 'patch.requestBody.content': { 'application/xml': {} } }, 'PATCH /tasks/{id} body: no longer application/json'],
  ['a status is removed', { 'list.responses.400': gone }, 'GET /tasks 400: removed'],
  ['a media type of a response is removed', { 'put.responses.202.content.text/event-stream': gone }, 'PUT /tasks/{id} 202: no longer text/event-stream'],
  ['a header of a response is removed', { 'put.responses.200.headers.ETag': gone }, 'PUT /tasks/{id} 200 header ETag: removed'],
  ['a header of a response may be absent', { 'put.responses.200.headers.ETag.required': false }, 'PUT /tasks/{id} 200 header ETag: may now be absent'],
  ['a component gets another name', {
    'schemas.Problem': gone,
    'schemas.Failure': released.components.schemas.Problem,
    'list.responses.400.content.application/problem+json.schema': ref('Failure'),
    'answer.anyOf.1': ref('Failure')
  }, 'Problem: the component is removed'],

  ['a member that callers send is removed', { 'schemas.Copy.properties.format': gone }, 'Copy.format: removed'],
  ['a required member is added to what callers send', { 'schemas.Copy.properties.host': { type: 'string' }, 'schemas.Copy.required': ['kind', 'image', 'host'] }, 'Copy.host: new, and required'],
  ['a member that callers send becomes required', { 'schemas.Copy.required': ['kind', 'image', 'size'] }, 'Copy.size: now required'],
  ['a value that callers send is removed', { 'schemas.Copy.properties.format.enum': ['raw'] }, 'Copy.format: no longer has "qcow2"'],
  ['callers have to keep to some values', { 'schemas.Copy.properties.image.enum': ['a'] }, 'Copy.image: now takes only "a"'],
  ['what callers send has another type', { 'schemas.Copy.properties.size': { type: 'string' } }, 'Copy.size: no longer takes integer'],
  ['what callers send may be of fewer types', { bandwidth: { type: 'integer', minimum: 1 } }, 'PATCH /tasks/{id} body.bandwidth: no longer takes null'],
  ['an alternative of what callers send gets narrower', { 'bandwidth.anyOf.0.minimum': 8 }, 'PATCH /tasks/{id} body.bandwidth: minimum is now 8, it was 1'],
  ['callers have to keep to another pattern', { 'schemas.Copy.properties.image.pattern': '^[a-y]+$' }, 'Copy.image: pattern is now ^[a-y]+$, it was ^[a-z]+$'],
  ['callers have to keep to a format', { 'schemas.Copy.properties.image.format': 'uuid' }, 'Copy.image: format is now uuid, it was any'],
  ['callers have to keep to a bound', { 'schemas.Copy.properties.image.minLength': 2 }, 'Copy.image: minLength is now 2, it was absent'],
  ['callers have to keep to coarser steps', { 'schemas.Copy.properties.size.multipleOf': 6 }, 'Copy.size: multipleOf is now 6, it was 4'],
  ['callers may send fewer items', { 'schemas.Copy.properties.tags.maxItems': 4 }, 'Copy.tags: maxItems is now 4, it was 5'],
  ['items that callers send must differ', { 'schemas.Copy.properties.tags.uniqueItems': true }, 'Copy.tags: uniqueItems is now true, it was absent'],
  ['items that callers send get narrower', { 'schemas.Copy.properties.tags.items.maxLength': 4 }, 'Copy.tags[]: maxLength is now 4, it was absent'],
  ['unknown members are refused', { 'patch.requestBody.content.application/json.schema.additionalProperties': false }, 'PATCH /tasks/{id} body.*: unknown members are no longer taken'],
  ['unknown members must be of a type', { 'patch.requestBody.content.application/json.schema.additionalProperties': { type: ['string', 'object', 'array'] } },
    'PATCH /tasks/{id} body.*: no longer takes null, boolean, number'],
  ['a branch of a union is removed', { 'schemas.Spec.oneOf.1': gone }, 'Spec: no longer has kind "delete"'],
  ['a branch goes by another value', { 'schemas.Delete.properties.kind.const': 'remove' }, 'Spec: no longer has kind "delete"'],
  ['a rule is added that the check does not know', { 'schemas.Copy.not': { required: ['size'] } }, 'Copy: changes or contains "not", of which scripts/check-compat.mjs knows nothing'],

  ['a member that callers read is removed', { 'schemas.Task.properties.at': gone }, 'Task.at: removed'],
  ['a member that callers read may be absent', { 'schemas.Task.required': ['state', 'at'] }, 'Task.id: may now be absent'],
  ['a value that callers read is removed', { 'schemas.Task.properties.state.enum': ['running'] }, 'Task.state: no longer has "done"'],
  ['a value is added to a closed set that callers read', { 'schemas.Task.properties.state.enum': ['running', 'done', 'lost'] }, 'Task.state: may now be "lost"'],
  ['a set that callers read is no longer closed', { 'schemas.Task.properties.state.enum': gone }, 'Task.state: may now be something else than "running", "done"'],
  ['what callers read may be of more types', { 'schemas.Task.properties.count.type': ['integer', 'null'] }, 'Task.count: may now be null'],
  ['a number that callers read need not be whole', { 'schemas.Task.properties.count.type': 'number' }, 'Task.count: may now be number'],
  ['what callers read may be anything', { 'schemas.Task.properties.count': {} }, 'Task.count: may now be null, boolean, number, string, array, object'],
  ['what callers read has another format', { 'schemas.Task.properties.at.format': 'date' }, 'Task.at: format is now date, it was date-time'],
  ['the members of a map have another type', { 'schemas.Task.properties.links.additionalProperties': { type: 'object' } }, 'Task.links.*: may now be object'],
  ['a map has no members any more', { 'schemas.Task.properties.links.additionalProperties': false }, 'Task.links.*: removed'],
  ['an alternative is added to what callers read', { 'answer.anyOf.2': { type: 'string' } }, 'PUT /tasks/{id} 200: may now be string'],
  ['what callers read becomes a union', { 'schemas.Task.properties.result': { anyOf: [{ type: 'object' }, { type: 'null' }] } }, 'Task.result: may now be null']
]

const compatible: Row[] = [
  ['nothing changes', {}],
  ['a path, an operation and a status are added', {
    'paths./new': { get: { operationId: 'getNew', responses: {} } },
    'paths./tasks/{id}.get': { operationId: 'getTask', responses: {} },
    'list.responses.503': { description: 'Busy.' }
  }],
  ['credentials may be given', { security: [{}, { token: [] }] }],
  ['an optional parameter and a media type are added', {
    'list.parameters.3': { in: 'query', name: 'host', schema: {} },
    'patch.requestBody.content.application/merge-patch+json': {}
  }],
  ['a header is written in other letters', { 'list.parameters.2.name': 'Prefer' }],
  ['parameters, branches and values come in another order', {
    'list.parameters': released.paths['/tasks'].get.parameters.toReversed(),
    'schemas.Spec.oneOf': released.components.schemas.Spec.oneOf.toReversed(),
    'schemas.Task.properties.state.enum': ['done', 'running']
  }],
  ['words, examples and extensions change', { 'schemas.Copy.properties.image.description': 'x', 'schemas.Copy.examples': [], 'schemas.Copy.x-internal': true }],
  ['an optional member is added to what callers send', { 'schemas.Copy.properties.verify': { type: 'boolean' } }],
  ['a value is added to what callers send', { 'schemas.Copy.properties.format.enum': ['raw', 'qcow2', 'vmdk'] }],
  ['what callers send gets wider', {
    'schemas.Copy.required': ['kind'],
    'schemas.Copy.additionalProperties': true,
    'schemas.Copy.properties.image': { type: ['string', 'null'], maxLength: 30 },
    'schemas.Copy.properties.size': { type: 'number', minimum: -1, multipleOf: 2 },
    'schemas.Copy.properties.tags': { type: 'array' },
    'bandwidth.anyOf.2': { type: 'string' }
  }],
  ['members are added to what callers read', {
    'schemas.Task.properties.toString': { type: 'string' },
    'schemas.Task.required': ['id', 'state', 'at', 'toString']
  }],
  ['what callers read gets narrower', {
    'schemas.Task.required': ['id', 'state', 'at', 'count'],
    'schemas.Task.properties.result': { type: 'object', additionalProperties: false, properties: { bytes: { type: 'integer' } } },
    answer: ref('Task')
  }],
  ['bounds and patterns of what callers read change', { 'schemas.Task.properties.id': { type: 'string', pattern: '.', maxLength: 200 } }],
  ['a branch is added to a union with a discriminator', {
    'schemas.Mend': { type: 'object', required: ['kind'], properties: { kind: { const: 'mend' } } },
    'schemas.Spec.oneOf.2': ref('Mend')
  }],
  ['an enum of one value becomes a constant', { 'schemas.Copy.properties.kind': { const: 'copy' } }],
  ['a schema becomes a component', {
    'schemas.Name': released.components.schemas.Copy.properties.image,
    'schemas.Copy.properties.image': { ...ref('Name'), description: 'x' }
  }]
]

for (const [title, change, ...lines] of breaking) {
  t.test(`it is breaking when ${title}`, async t => { t.strictSame(breakingChanges(released, changed(released, change)), lines) })
}

for (const [title, change] of compatible) {
  t.test(`it is compatible when ${title}`, async t => { t.strictSame(breakingChanges(released, changed(released, change)), []) })
}

t.test('what callers send and read is judged in both ways', async t => {
  const before = changed(released, { 'schemas.Task.properties.spec': ref('Spec') })
  const after = changed(before, { 'schemas.Copy.properties.format.enum': ['raw', 'vmdk'] })
  t.strictSame(breakingChanges(before, after), ['Copy.format: no longer has "qcow2"', 'Copy.format: may now be "vmdk"'])
})

t.test('a rule that the check does not know is no way around it', async t => {
  const before = changed(released, { 'schemas.Copy.properties.spec': { allOf: [ref('Spec')] } })
  t.strictSame(breakingChanges(before, before), ['Copy.spec: changes or contains "allOf", of which scripts/check-compat.mjs knows nothing'])
})

t.test('a reference that leads nowhere is an error', async t => {
  t.throws(() => breakingChanges(released, changed(released, { 'schemas.Page.properties.items.items': ref('Tsak') })), /#\/components\/schemas\/Tsak leads nowhere/)
})

t.test('a version makes room for breaking changes by its major part, or for 0.x by its minor part', async t => {
  const versions: Array<[released: string, current: string, room: boolean]> = [
    ['1.2.3', '1.2.3', false], ['1.2.3', '1.2.4', false], ['1.2.3', '1.3.0', false], ['1.2.3', '2.0.0', true], ['9.0.0', '10.0.0', true],
    ['0.1.0', '0.1.0', false], ['0.1.0', '0.1.1', false], ['0.1.0', '0.2.0', true], ['0.9.0', '0.10.0', true], ['0.9.0', '1.0.0', true],
    ['1.0.0', '0.9.0', false], ['0.2.0', '0.1.0', false], ['2.5.0', '1.9.0', false]
  ]
  for (const [before, after, room] of versions) t.equal(mayBreak(before, after), room, `${before} to ${after}`)
  t.throws(() => mayBreak('1.0.0', 'next'), /info\.version "next" is no semantic version/)
})

t.test('the script prints each change and fails, unless the version makes room', async t => {
  const withVersion = (version: string, paths: object) => JSON.stringify({ ...released, info: { title: 'a', version }, paths })
  const { '/tasks': _, ...fewer } = released.paths
  const folder = t.testdir({ released: withVersion('1.2.0', released.paths), same: withVersion('1.2.0', released.paths), fewer: withVersion('1.3.0', fewer), major: withVersion('2.0.0', fewer) })
  const check = async (current: string) => await new Promise<{ status: number, lines: string[] }>(resolve => {
    const child = execFile(process.execPath, [script, `${folder}/released`, `${folder}/${current}`], (_error, stdout) => {
      resolve({ status: child.exitCode ?? -1, lines: stdout.trimEnd().split('\n') })
    })
  })
  t.strictSame(await check('same'), { status: 0, lines: ['compatibility: no breaking changes since 1.2.0'] })
  t.strictSame(await check('fewer'), {
    status: 1,
    lines: ['/tasks: removed', 'compatibility: 1 breaking change since 1.2.0, and the version is 1.3.0: undo them, or make room for them in the version (package.json)']
  })
  t.strictSame(await check('major'), { status: 0, lines: ['/tasks: removed', 'compatibility: 1 breaking change since 1.2.0, which 2.0.0 may have'] })
})
