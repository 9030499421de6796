import t from 'tap'
import { makeValidator } from '../../src/http/validation.ts'
import { startAgent } from '../helpers/http-agent.ts'
import { isProblem } from '../helpers/http-client.ts'

const copy = { kind: 'storage.copyImage', source: { domain: 'local', image: 'a.raw' }, target: { domain: 'local', image: 'b.raw' } }
const creation = { kind: 'storage.createImage', domain: 'local', image: 'a.raw', virtualSize: 512 }

t.test('a body is taken as it is, and what is wrong with it is named', async t => {
  const { client, bodies } = await startAgent(t)
  for (const [body, detail] of [
    [{ ...copy, bandwidth: '5' }, /body\.bandwidth must be integer/],
    [{ ...copy, bandwidth: null }, /body\.bandwidth must be integer/],
    [{ ...copy, bandwidth: true }, /body\.bandwidth must be integer/],
    [{ ...copy, bandwidth: [5] }, /body\.bandwidth must be integer/],
    [{ ...copy, bandwidth: 1.5 }, /body\.bandwidth must be integer/],
    [{ ...copy, bandwidth: 0 }, /body\.bandwidth must be >= 1/],
    [{ ...copy, bandwidth: 2 ** 53 }, /body\.bandwidth must be <= 9007199254740991/],
    [{ ...copy, verify: 'true' }, /body\.verify must be boolean/],
    [{ ...copy, verify: null }, /body\.verify must be boolean/],
    [{ ...copy, bandwith: 5 }, /body has an unknown field "bandwith"/],
    [{ ...copy, source: { ...copy.source, formt: 'raw' } }, /body\.source has an unknown field "formt"/],
    [{ ...copy, source: 'a.raw' }, /body\.source must be object/],
    [{ ...copy, source: [copy.source] }, /body\.source must be object/],
    [{ ...copy, target: undefined }, /body must have required property 'target'/],
    [{ ...copy, source: { ...copy.source, image: '../a.raw' } }, /body\.source\.image must match pattern/],
    [{ ...copy, source: { ...copy.source, image: 'a\n' } }, /body\.source\.image must match pattern/],
    [{ ...copy, source: { ...copy.source, format: 'vmdk' } }, /body\.source\.format must be one of raw, qcow2/],
    [{ ...creation, verify: true }, /body has an unknown field "verify"/],
    [{ ...creation, virtualSize: 513 }, /body\.virtualSize must be multiple of 512/],
    [{ ...creation, virtualSize: -512 }, /body\.virtualSize must be >= 0/],
    [{ ...creation, virtualSize: '512' }, /body\.virtualSize must be integer/],
    [{ ...copy, kind: 'storage.createImage' }, /body (has an unknown field|must have required property)/],
    [{ ...copy, kind: 'storage.nonsense' }, /body has an unknown kind "storage\.nonsense"/],
    [{ ...copy, kind: 'toString' }, /body has an unknown kind "toString"/],
    [{ ...copy, kind: 5 }, /body needs a "kind", a string/],
    [{ ...copy, kind: undefined }, /kind/],
    [[copy], /body must be object/],
    ['"copy"', /body must be object/],
    ['null', /body must be object/],
    ['5', /body must be object/]
  ] as const) {
    const reply = await client.put('/tasks/a', body)
    isProblem(t, reply, 'bad-request', JSON.stringify(body))
    t.match(reply.problem.detail, detail, JSON.stringify(body))
  }
  isProblem(t, await client.send('PUT', '/tasks/a', {}), 'bad-request', 'no body')
  t.equal(bodies.all.length, 0)
})

t.test('queries are text, and are converted', async t => {
  const { client } = await startAgent(t)
  t.equal((await client.get('/tasks?limit=5')).status, 200)
  t.match((await client.put('/tasks/a?dryRun=true', copy)).json, { outcome: 'created' })
  t.equal((await client.put('/tasks/a?dryRun=false', copy, { prefer: 'respond-async' })).status, 202)
  for (const query of ['dryRun=1', 'dryRun=', 'dryRun', 'dryRun=True', 'dryrun=true', 'dryRun=true&dryRun=false']) {
    isProblem(t, await client.put(`/tasks/b?${query}`, copy), 'bad-request', query)
  }
})

t.test('headers are checked when there is something to check', t => {
  const validate = (schema: object) => makeValidator(() => ({}))({ schema, method: 'GET', url: '/', httpPart: 'headers' })
  const plain = { type: 'object', properties: { prefer: { type: 'string', description: 'What is preferred.' } } }
  t.equal(validate(plain)({}), true)
  t.equal(validate(plain)({ prefer: 'anything' }), true)
  for (const narrow of [
    { ...plain, required: ['prefer'] },
    { ...plain, properties: { prefer: { type: 'string', pattern: '^a$' } } },
    { ...plain, properties: { prefer: { type: 'integer' } } },
    { ...plain, additionalProperties: false }
  ]) {
    const result = validate(narrow)('required' in narrow ? {} : { prefer: 'anything', more: '1' })
    t.equal(result, false, JSON.stringify(narrow))
  }
  t.end()
})
