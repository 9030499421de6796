import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const script = fileURLToPath(new URL('../../scripts/check-compat.mjs', import.meta.url))
const { breakingChanges, mayBreak }: {
  breakingChanges: (released: object, current: object) => string[]
  mayBreak: (released: string, current: string) => boolean
} = await import(script)

/** Any JSON, to be changed at any place: a path that leads nowhere fails the test by itself. */
interface Json { [key: string]: Json & Json[] & string & number & boolean }

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

type Change = [title: string, change: (document: Json, schemas: Json, paths: Json) => void, ...lines: string[]]

const list = (paths: Json) => paths['/tasks']!['get']!
const put = (paths: Json) => paths['/tasks/{id}']!['put']!
const patch = (paths: Json) => paths['/tasks/{id}']!['patch']!
const body = (operation: Json) => operation['requestBody']!['content']!['application/json']!['schema']!
const copy = (schemas: Json) => schemas['Copy']!['properties']!
const task = (schemas: Json) => schemas['Task']!['properties']!
/** A value for the document, whatever it is. */
const as = (value: unknown) => value as Json[string]

const breaking: Change[] = [
  ['a path is removed', (_, __, paths) => { delete paths['/tasks'] }, '/tasks: removed'],
  ['an operation is removed', (_, __, paths) => { delete paths['/tasks/{id}']!['patch'] }, 'PATCH /tasks/{id}: removed'],
  ['an operation gets another name', (_, __, paths) => { list(paths)['operationId'] = as('getTasks') }, 'GET /tasks: operationId is now getTasks, it was listTasks'],
  ['credentials are asked for', ({ paths }) => { list(paths!)['security'] = as([{ token: [] }]) }, 'GET /tasks: a request without credentials is no longer let in'],
  ['a parameter is removed', (_, __, paths) => { list(paths)['parameters']!.splice(1, 1) }, 'GET /tasks query cursor: removed'],
  ['a required parameter is added', (_, __, paths) => { list(paths)['parameters']!.push(as({ in: 'query', name: 'host', required: true, schema: {} })) }, 'GET /tasks query host: new, and required'],
  ['a parameter becomes required', (_, __, paths) => { list(paths)['parameters']![1]!['required'] = as(true) }, 'GET /tasks query cursor: now required'],
  ['a parameter moves from the query to a header', (_, __, paths) => { list(paths)['parameters']![1]!['in'] = as('header') }, 'GET /tasks query cursor: removed'],
  ['the bounds of a parameter close in', (_, __, paths) => { Object.assign(list(paths)['parameters']![0]!['schema']!, { minimum: 2, maximum: 500 }) },
    'GET /tasks query limit: minimum is now 2, it was 1', 'GET /tasks query limit: maximum is now 500, it was 1000'],
  ['another value stands in for an absent parameter', (_, __, paths) => { list(paths)['parameters']![0]!['schema']!['default'] = as(10) }, 'GET /tasks query limit: default is now 10, it was 100'],
  ['a parameter of the whole path gets shorter', (_, __, paths) => { paths['/tasks/{id}']!['parameters']![0]!['schema']!['maxLength'] = as(10) },
    'PUT /tasks/{id} path id: maxLength is now 10, it was 20', 'PATCH /tasks/{id} path id: maxLength is now 10, it was 20'],
  ['a body becomes required', (_, __, paths) => { patch(paths)['requestBody']!['required'] = as(true) }, 'PATCH /tasks/{id} body: now required'],
  ['a body is removed', (_, __, paths) => { delete patch(paths)['requestBody'] }, 'PATCH /tasks/{id} body: removed'],
  ['a body is to be of another media type', (_, __, paths) => { patch(paths)['requestBody']!['content'] = as({ 'application/xml': {} }) }, 'PATCH /tasks/{id} body: no longer application/json'],
  ['a status is removed', (_, __, paths) => { delete list(paths)['responses']!['400'] }, 'GET /tasks 400: removed'],
  ['a media type of a response is removed', (_, __, paths) => { delete put(paths)['responses']!['202']!['content']!['text/event-stream'] }, 'PUT /tasks/{id} 202: no longer text/event-stream'],
  ['a header of a response is removed', (_, __, paths) => { delete put(paths)['responses']!['200']!['headers']!['ETag'] }, 'PUT /tasks/{id} 200 header ETag: removed'],
  ['a header of a response may be absent', (_, __, paths) => { put(paths)['responses']!['200']!['headers']!['ETag']!['required'] = as(false) }, 'PUT /tasks/{id} 200 header ETag: may now be absent'],
  ['a component gets another name', (_, schemas, paths) => {
    schemas['Failure'] = schemas['Problem']!
    delete schemas['Problem']
    list(paths)['responses']!['400']!['content']!['application/problem+json']!['schema'] = as(ref('Failure'))
    put(paths)['responses']!['200']!['content']!['application/json']!['schema']!['anyOf']![1] = as(ref('Failure'))
  }, 'Problem: the component is removed'],

  ['a member that callers send is removed', (_, schemas) => { delete copy(schemas)['format'] }, 'Copy.format: removed'],
  ['a required member is added to what callers send', (_, schemas) => {
    copy(schemas)['host'] = as({ type: 'string' })
    schemas['Copy']!['required']!.push(as('host'))
  }, 'Copy.host: new, and required'],
  ['a member that callers send becomes required', (_, schemas) => { schemas['Copy']!['required']!.push(as('size')) }, 'Copy.size: now required'],
  ['a value that callers send is removed', (_, schemas) => { copy(schemas)['format']!['enum']!.pop() }, 'Copy.format: no longer has "qcow2"'],
  ['what callers send may only be some values', (_, schemas) => { copy(schemas)['image']!['enum'] = as(['a']) }, 'Copy.image: now takes only "a"'],
  ['what callers send has another type', (_, schemas) => { copy(schemas)['size'] = as({ type: 'string' }) }, 'Copy.size: no longer takes integer'],
  ['what callers send may be fewer types', (_, __, paths) => { body(patch(paths))['properties']!['bandwidth'] = as({ type: 'integer', minimum: 1 }) }, 'PATCH /tasks/{id} body.bandwidth: no longer takes null'],
  ['an alternative of what callers send gets narrower', (_, __, paths) => { body(patch(paths))['properties']!['bandwidth']!['anyOf']![0]!['minimum'] = as(8) }, 'PATCH /tasks/{id} body.bandwidth: minimum is now 8, it was 1'],
  ['callers have to keep to another pattern', (_, schemas) => { copy(schemas)['image']!['pattern'] = as('^[a-y]+$') }, 'Copy.image: pattern is now ^[a-y]+$, it was ^[a-z]+$'],
  ['callers have to keep to a format', (_, schemas) => { copy(schemas)['image']!['format'] = as('uuid') }, 'Copy.image: format is now uuid, it was any'],
  ['callers have to keep to a bound', (_, schemas) => { copy(schemas)['image']!['minLength'] = as(2) }, 'Copy.image: minLength is now 2, it was absent'],
  ['callers have to keep to coarser steps', (_, schemas) => { copy(schemas)['size']!['multipleOf'] = as(6) }, 'Copy.size: multipleOf is now 6, it was 4'],
  ['callers may send fewer items', (_, schemas) => { copy(schemas)['tags']!['maxItems'] = as(4) }, 'Copy.tags: maxItems is now 4, it was 5'],
  ['items that callers send get narrower', (_, schemas) => { copy(schemas)['tags']!['items']!['maxLength'] = as(4) }, 'Copy.tags[]: maxLength is now 4, it was absent'],
  ['unknown members are refused', (_, __, paths) => { body(patch(paths))['properties']!['extra']!['additionalProperties'] = as(false) }, 'PATCH /tasks/{id} body.extra.*: unknown members are no longer taken'],
  ['unknown members must be of a type', (_, __, paths) => { body(patch(paths))['properties']!['extra']!['additionalProperties'] = as({ type: 'string' }) },
    'PATCH /tasks/{id} body.extra.*: no longer takes null, boolean, number, array, object'],
  ['a branch of a union is removed', (_, schemas) => { schemas['Spec']!['oneOf']!.pop() }, 'Spec: no longer has kind "delete"'],
  ['a branch gets another value', (_, schemas) => { schemas['Delete']!['properties']!['kind'] = as({ const: 'remove' }) }, 'Spec: no longer has kind "delete"'],
  ['a rule is added that the check does not know', (_, schemas) => { schemas['Copy']!['not'] = as({ required: ['size'] }) }, 'Copy: changes or contains "not", of which scripts/check-compat.mjs knows nothing'],
  ['a rule that the check does not know leads elsewhere', (document, schemas) => {
    copy(schemas)['image']!['allOf'] = as([ref('Task')])
    document['before'] = as(structuredClone(schemas))
  }, 'Copy.image: changes or contains "allOf", of which scripts/check-compat.mjs knows nothing'],

  ['a member that callers read is removed', (_, schemas) => { delete task(schemas)['at'] }, 'Task.at: removed'],
  ['a member that callers read may be absent', (_, schemas) => { schemas['Task']!['required']!.shift() }, 'Task.id: may now be absent'],
  ['a value that callers read is removed', (_, schemas) => { task(schemas)['state']!['enum']!.pop() }, 'Task.state: no longer has "done"'],
  ['a value is added to a closed set that callers read', (_, schemas) => { task(schemas)['state']!['enum']!.push(as('lost')) }, 'Task.state: may now be "lost"'],
  ['a set that callers read is no longer closed', (_, schemas) => { delete task(schemas)['state']!['enum'] }, 'Task.state: may now be something else than "running", "done"'],
  ['what callers read may be more types', (_, schemas) => { task(schemas)['count']!['type'] = as(['integer', 'null']) }, 'Task.count: may now be null'],
  ['what callers read need not be whole', (_, schemas) => { task(schemas)['count']!['type'] = as('number') }, 'Task.count: may now be number'],
  ['what callers read may be anything', (_, schemas) => { task(schemas)['count'] = as({}) }, 'Task.count: may now be null, boolean, number, string, array, object'],
  ['what callers read has another format', (_, schemas) => { task(schemas)['at']!['format'] = as('date') }, 'Task.at: format is now date, it was date-time'],
  ['the members of a map get another type', (_, schemas) => { task(schemas)['links']!['additionalProperties'] = as({ type: 'object' }) }, 'Task.links.*: may now be object'],
  ['a map has no members any more', (_, schemas) => { task(schemas)['links']!['additionalProperties'] = as(false) }, 'Task.links.*: removed'],
  ['an alternative is added to what callers read', (_, __, paths) => { put(paths)['responses']!['200']!['content']!['application/json']!['schema']!['anyOf']!.push(as({ type: 'string' })) }, 'PUT /tasks/{id} 200: may now be string'],
  ['what callers read becomes a union', (_, schemas) => { task(schemas)['result'] = as({ anyOf: [{ type: 'object' }, { type: 'null' }] }) }, 'Task.result: may now be null']
]

const compatible: Change[] = [
  ['nothing changes', () => {}],
  ['a path, an operation and a status are added', (_, __, paths) => {
    paths['/new'] = as({ get: list(paths) })
    paths['/tasks/{id}']!['get'] = as({ operationId: 'getTask', responses: {} })
    list(paths)['responses']!['503'] = as({ description: 'Busy.' })
  }],
  ['credentials may be given', document => { document['security'] = as([{}, { token: [] }]) }],
  ['an optional parameter and a media type are added', (_, __, paths) => {
    list(paths)['parameters']!.unshift(as({ in: 'query', name: 'host', schema: {} }))
    patch(paths)['requestBody']!['content']!['application/merge-patch+json'] = as({})
  }],
  ['a header parameter is written in other letters', (_, __, paths) => { list(paths)['parameters']![2]!['name'] = as('Prefer') }],
  ['parameters and values come in another order', (_, schemas, paths) => {
    list(paths)['parameters']!.reverse()
    task(schemas)['state']!['enum']!.reverse()
    schemas['Spec']!['oneOf']!.reverse()
  }],
  ['words, examples and extensions change', (_, schemas) => { Object.assign(copy(schemas)['image']!, { description: 'Other words.', examples: ['b'], 'x-internal': true }) }],
  ['an optional member is added to what callers send', (_, schemas) => { copy(schemas)['verify'] = as({ type: 'boolean' }) }],
  ['a value is added to what callers send', (_, schemas) => { copy(schemas)['format']!['enum']!.push(as('vmdk')) }],
  ['what callers send gets wider', (_, schemas) => {
    schemas['Copy']!['required']!.pop()
    schemas['Copy']!['additionalProperties'] = as(true)
    copy(schemas)['image'] = as({ type: ['string', 'null'], maxLength: 30 })
    copy(schemas)['size'] = as({ type: 'number', minimum: -1, multipleOf: 2 })
    copy(schemas)['tags'] = as({ type: 'array' })
  }],
  ['a member is added to what callers read', (_, schemas) => {
    task(schemas)['host'] = as({ type: 'string' })
    schemas['Task']!['required']!.push(as('host'))
    task(schemas)['toString'] = as({ type: 'string' })
  }],
  ['what callers read gets narrower', (_, schemas, paths) => {
    schemas['Task']!['required']!.push(as('count'))
    task(schemas)['result'] = as({ type: 'object', additionalProperties: false, properties: { bytes: { type: 'integer' } } })
    put(paths)['responses']!['200']!['content']!['application/json']!['schema'] = as(ref('Task'))
  }],
  ['bounds and patterns of what callers read change', (_, schemas) => { Object.assign(task(schemas)['id']!, { pattern: '^.*$', maxLength: 200 }) }],
  ['a branch is added to a union with a discriminator', (_, schemas, paths) => {
    schemas['Mend'] = as({ type: 'object', required: ['kind'], properties: { kind: { const: 'mend' } } })
    schemas['Spec']!['oneOf']!.push(as(ref('Mend')))
    task(schemas)['spec'] = as(ref('Spec'))
    put(paths)['summary'] = as('Put.')
  }],
  ['an enum of one value becomes a constant', (_, schemas) => { copy(schemas)['kind'] = as({ const: 'copy' }) }],
  ['an inline schema becomes a component', (_, schemas) => {
    schemas['Name'] = copy(schemas)['image']!
    copy(schemas)['image'] = as({ ...ref('Name'), description: 'Its name.' })
  }]
]

const breakingLines = ([, change]: Change) => {
  const current = structuredClone(released) as unknown as Json
  change(current, current['components']!['schemas']!, current['paths']!)
  const { before, ...document } = current
  return breakingChanges({ ...released, ...(before !== undefined && { components: { schemas: before } }) }, document)
}

for (const row of breaking) {
  const [title, , ...lines] = row
  t.test(`it is breaking when ${title}`, async t => { t.strictSame(breakingLines(row), lines) })
}

for (const row of compatible) {
  t.test(`it is compatible when ${row[0]}`, async t => { t.strictSame(breakingLines(row), []) })
}

t.test('a change of a component is told once, with the component as its place', async t => {
  // Task is read in four responses, by Page and by itself
  t.strictSame(breakingLines(['', (_, schemas) => { delete task(schemas)['count'] }]), ['Task.count: removed'])
})

t.test('what narrows both ways is breaking both ways', async t => {
  const both = (_: Json, schemas: Json) => {
    task(schemas)['spec'] = as(ref('Copy'))
  }
  const old = structuredClone(released) as unknown as Json
  both(old, old['components']!['schemas']!)
  const now = structuredClone(old)
  now['components']!['schemas']!['Copy']!['properties']!['format']!['enum'] = as(['raw', 'vmdk'])
  t.strictSame(breakingChanges(old, now), ['Copy.format: no longer has "qcow2"', 'Copy.format: may now be "vmdk"'])
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
    lines: ['/tasks: removed', 'compatibility: 1 breaking changes since 1.2.0, and the version is 1.3.0: undo them, or make room for them in the version (package.json)']
  })
  t.strictSame(await check('major'), { status: 0, lines: ['/tasks: removed', 'compatibility: 1 breaking changes since 1.2.0, which 2.0.0 may have'] })
})
