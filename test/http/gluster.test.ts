import t from 'tap'
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
