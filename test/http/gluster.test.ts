import t from 'tap'
import type { OperationList } from '../../src/api/operation.ts'
import { AppError } from '../../src/errors.ts'
import { glusterRoutes } from '../../src/http/gluster.ts'
import { addSchemas } from '../../src/http/schemas.ts'
import { createServer } from '../../src/http/server.ts'
import { silent } from '../helpers/http-agent.ts'
import { HttpClient, isProblem } from '../helpers/http-client.ts'
import { operationOf } from '../helpers/operations.ts'

t.test('what Gluster says is passed on, and so is why it says nothing', async t => {
  const app = createServer({ log: silent, instance: 'x', allowedHosts: [], maxBodyBytes: 1024 })
  const operation = operationOf()
  let trouble: AppError | undefined
  const answer = <T>(value: T) => async () => {
    if (trouble !== undefined) throw trouble
    return value
  }
  addSchemas(app)
  glusterRoutes(app, {
    operations: {
      list: answer({ items: [operation], observedAt: operation.observedAt }),
      tune: async (_id, throttle) => await answer({ ...operation, throttle })(),
      volumes: answer({ items: [], observedAt: operation.observedAt }),
      find: async id => {
        if (id !== operation.operationId) throw new AppError('operation-not-found', 'No such operation.')
        return await answer(operation)()
      }
    }
  })
  t.teardown(async () => { await app.close() })
  await app.listen({ host: '127.0.0.1', port: 0 })
  const address = app.server.address()
  const client = new HttpClient({ host: '127.0.0.1', port: typeof address === 'object' && address !== null ? address.port : 0 })
  t.teardown(() => { client.close() })
  t.same((await client.get('/gluster/operations')).json, { items: [operation], observedAt: operation.observedAt })
  t.same((await client.get(`/gluster/operations/${operation.operationId}`)).json, operation)
  t.same((await client.get('/gluster/volumes')).json, { items: [], observedAt: operation.observedAt })
  isProblem(t, await client.get(`/gluster/operations/${operation.operationId.replace('a', 'b')}`), 'operation-not-found')
  for (const id of ['x', '%2F', '']) isProblem(t, await client.get(`/gluster/operations/${id}`), 'bad-request', id)
  isProblem(t, await client.send('POST', '/gluster/operations'), 'method-not-allowed')
  for (const code of ['gluster-unavailable', 'gluster-busy', 'gluster-unresponsive', 'gluster-unexpected'] as const) {
    trouble = new AppError(code, 'So it is.', { members: { excerpt: '<xml>' } })
    for (const path of ['/gluster/operations', `/gluster/operations/${operation.operationId}`, '/gluster/volumes']) {
      const reply = await client.get(path)
      isProblem(t, reply, code, `${code} ${path}`)
      t.match(reply.json, { excerpt: '<xml>' })
      t.equal('retry-after' in reply.headers, reply.status === 503)
    }
  }
})

t.test('a list is narrowed, and waits for the end of what it tells of if that is preferred', async t => {
  const app = createServer({ log: silent, instance: 'x', allowedHosts: [], maxBodyBytes: 1024 })
  addSchemas(app)
  const one = operationOf({ volume: 'a', task: { taskId: 'mine', hostId: 'h' } })
  const two = operationOf({ operationId: 'b25688b9-2795-412f-b56b-667b23486dc8', volume: 'b', state: 'completed', claimedBy: { taskId: 'mine', hostId: 'h', claimedAt: one.observedAt } })
  const over = operationOf({ operationId: 'c25688b9-2795-412f-b56b-667b23486dc8', volume: 'a', state: 'stopped', ended: { how: 'stopped', at: one.observedAt } })
  let looks = 0
  let runs = Infinity
  const tuned: unknown[] = []
  const now = () => looks++ < runs ? one : { ...one, state: 'completed' as const }
  glusterRoutes(app, {
    operations: {
      list: async () => ({ items: [now(), two], ended: [over], unknown: [{ volume: 'c', code: 'gluster-busy', detail: '' }], observedAt: one.observedAt }),
      volumes: async () => ({ items: [], observedAt: one.observedAt }),
      find: async () => now(),
      tune: async (id, throttle) => {
        tuned.push([id, throttle])
        return { ...one, throttle }
      }
    }
  })
  t.teardown(async () => { await app.close() })
  await app.listen({ host: '127.0.0.1', port: 0 })
  const address = app.server.address()
  const client = new HttpClient({ host: '127.0.0.1', port: typeof address === 'object' && address !== null ? address.port : 0 })
  t.teardown(() => { client.close() })
  const volumes = async (query: string): Promise<string> => {
    const { items, ended = [] } = (await client.get(`/gluster/operations?${query}`)).json as OperationList
    return [...items, ...ended].map(({ volume, state }) => `${volume} ${state}`).join(', ')
  }
  t.equal(await volumes(''), 'a running, b completed, a stopped')
  t.equal(await volumes('volume=a'), 'a running, a stopped')
  t.equal(await volumes('volume=b,c&state=completed,failed'), 'b completed')
  t.equal(await volumes('state=running'), 'a running')
  t.equal(await volumes('taskId=mine'), 'a running, b completed')
  t.equal(await volumes('taskId=other'), '')
  isProblem(t, await client.get('/gluster/operations?state=lost'), 'bad-request')
  isProblem(t, await client.get('/gluster/operations?volumes=a'), 'bad-request')

  looks = 0
  runs = 1
  const waited = await client.get('/gluster/operations?volume=a', { prefer: 'wait=60' })
  t.equal(waited.headers['preference-applied'], 'wait=60')
  t.match(waited.json, { items: [{ state: 'completed' }] })
  t.equal(looks, 2)
  looks = 0
  t.match((await client.get(`/gluster/operations/${one.operationId}`, { prefer: 'wait=60' })).json, { state: 'completed' })
  looks = 0
  runs = Infinity
  t.match((await client.get('/gluster/operations?volume=a', { prefer: 'wait=1' })).json, { items: [{ state: 'running' }] }, 'no longer than that')
  const before = looks
  t.match((await client.get('/gluster/operations?volume=b', { prefer: 'wait=60' })).json, { items: [{ state: 'completed' }] }, 'what does not run is not waited for')
  t.equal(looks, before + 1)

  t.match((await client.send('PATCH', `/gluster/operations/${one.operationId}`, { body: { throttle: 'lazy' } })).json, { throttle: 'lazy' })
  for (const body of [{ throttle: 'slow' }, {}, { throttle: 'lazy', more: 1 }]) isProblem(t, await client.send('PATCH', `/gluster/operations/${one.operationId}`, { body }), 'bad-request')
  t.strictSame(tuned, [[one.operationId, 'lazy']])
})
