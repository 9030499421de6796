import t from 'tap'
import type { ErrorCode } from '../../src/errors.ts'
import type { Run } from '../../src/tasks/run.ts'
import { copyOf, deletionOf, startAgent } from '../helpers/http-agent.ts'
import { isProblem } from '../helpers/http-client.ts'
import { drive, existing, type Existing } from '../helpers/http-states.ts'

interface Verb {
  name: string
  method: 'GET' | 'HEAD' | 'DELETE' | 'PATCH'
  query?: (run: Run | undefined) => string
  headers?: (run: Run | undefined) => Record<string, string>
  body?: unknown
  /** A status, or the code of a problem. */
  answer: (state: Existing) => number | ErrorCode
  /** The state afterwards; as before, if it is not said. */
  after?: (state: Existing) => Existing
}

const isActive = (state: Existing) => state === 'pending' || state === 'running' || state === 'canceling'
const found = (answer: (state: Existing) => number | ErrorCode) => (state: Existing) => state === 'none' ? 'task-not-found' : answer(state)
const canceling = (state: Existing) => isActive(state) ? 'canceling' : state
const forgotten = (state: Existing) => isActive(state) ? 'canceling' : 'none'
const tag = (run: Run | undefined, change: object = {}) => {
  const { instance, runId, revision, tick } = { instance: 'x', runId: 'x', revision: 0, tick: 0, ...run && { instance: run.instance, runId: run.runId, revision: run.revision, tick: run.tick }, ...change }
  return `"${instance}.${runId}.${revision}.${tick}"`
}

const stopOrTell = found(state => isActive(state) ? 202 : 200)
const stopOrForget = found(state => isActive(state) ? 202 : 204)
const onlyActive = found(state => isActive(state) ? 200 : 'task-finished')
const otherRun = found(() => 'precondition-failed')
const bandwidth = { bandwidth: 5 }

const verbs: Verb[] = [
  { name: 'GET', method: 'GET', answer: found(() => 200) },
  { name: 'HEAD', method: 'HEAD', answer: found(() => 200) },
  { name: 'GET, If-None-Match its tag', method: 'GET', headers: run => ({ 'if-none-match': tag(run) }), answer: found(() => 304) },
  { name: 'GET, If-None-Match its tag as a proxy has weakened it', method: 'GET', headers: run => ({ 'if-none-match': `W/${tag(run)}` }), answer: found(() => 304) },
  { name: 'GET, If-None-Match a list', method: 'GET', headers: run => ({ 'if-none-match': `"x", ${tag(run)}` }), answer: found(() => 304) },
  { name: 'GET, If-None-Match *', method: 'GET', headers: () => ({ 'if-none-match': '*' }), answer: found(() => 304) },
  { name: 'GET, If-None-Match another tick', method: 'GET', headers: run => ({ 'if-none-match': tag(run, { tick: 99 }) }), answer: found(() => 200) },
  { name: 'GET, If-None-Match another revision', method: 'GET', headers: run => ({ 'if-none-match': tag(run, { revision: 99 }) }), answer: found(() => 200) },
  { name: 'GET, If-None-Match unquoted', method: 'GET', headers: () => ({ 'if-none-match': 'x' }), answer: () => 'precondition-malformed' },
  { name: 'DELETE', method: 'DELETE', answer: stopOrTell, after: canceling },
  { name: 'DELETE of this run', method: 'DELETE', query: run => `?runId=${run?.runId}`, answer: stopOrTell, after: canceling },
  { name: 'DELETE of another run', method: 'DELETE', query: () => '?runId=other', answer: otherRun },
  { name: 'DELETE, If-Match its tag', method: 'DELETE', headers: run => ({ 'if-match': tag(run) }), answer: stopOrForget, after: forgotten },
  { name: 'DELETE, If-Match its tag at another tick', method: 'DELETE', headers: run => ({ 'if-match': tag(run, { tick: 99 }) }), answer: stopOrForget, after: forgotten },
  { name: 'DELETE, If-Match *', method: 'DELETE', headers: () => ({ 'if-match': '*' }), answer: stopOrForget, after: forgotten },
  // who wants this run stopped means it at whatever revision; who wants it forgotten means the result that was seen
  { name: 'DELETE, If-Match another revision', method: 'DELETE', headers: run => ({ 'if-match': tag(run, { revision: 99 }) }), answer: found(state => isActive(state) ? 202 : 'precondition-failed'), after: canceling },
  { name: 'DELETE, If-Match another run', method: 'DELETE', headers: run => ({ 'if-match': tag(run, { runId: 'other' }) }), answer: otherRun },
  { name: 'DELETE, If-Match another instance', method: 'DELETE', headers: run => ({ 'if-match': tag(run, { instance: 'other' }) }), answer: otherRun },
  { name: 'DELETE, If-Match weak', method: 'DELETE', headers: run => ({ 'if-match': `W/${tag(run)}` }), answer: otherRun },
  { name: 'DELETE, If-Match its tag, of another run', method: 'DELETE', query: () => '?runId=other', headers: run => ({ 'if-match': tag(run) }), answer: otherRun },
  { name: 'DELETE, If-Match unquoted', method: 'DELETE', headers: () => ({ 'if-match': 'x' }), answer: () => 'precondition-malformed' },
  { name: 'PATCH', method: 'PATCH', body: bandwidth, answer: onlyActive },
  { name: 'PATCH that lifts the limit', method: 'PATCH', body: { bandwidth: null }, answer: onlyActive },
  { name: 'PATCH of this run', method: 'PATCH', query: run => `?runId=${run?.runId}`, body: bandwidth, answer: onlyActive },
  { name: 'PATCH of another run', method: 'PATCH', query: () => '?runId=other', body: bandwidth, answer: otherRun },
  { name: 'PATCH, If-Match its tag', method: 'PATCH', headers: run => ({ 'if-match': tag(run) }), body: bandwidth, answer: onlyActive },
  { name: 'PATCH, If-Match another run', method: 'PATCH', headers: run => ({ 'if-match': tag(run, { runId: 'other' }) }), body: bandwidth, answer: otherRun },
  { name: 'PATCH, If-Match unquoted', method: 'PATCH', headers: () => ({ 'if-match': 'x' }), body: bandwidth, answer: () => 'precondition-malformed' },
  { name: 'PATCH of nothing', method: 'PATCH', body: {}, answer: () => 'bad-request' },
  { name: 'PATCH of a limit of zero', method: 'PATCH', body: { bandwidth: 0 }, answer: () => 'bad-request' },
  { name: 'PATCH of the command', method: 'PATCH', body: { bandwidth: 1, verify: true }, answer: () => 'bad-request' }
]

for (const state of existing) {
  t.test(`every verb on a record that is ${state}`, async t => {
    const agent = await startAgent(t, { queues: {} })
    const { registry, client, bodies } = agent
    for (const [n, { name, method, query, headers, body, answer, after }] of verbs.entries()) {
      const id = `t${n}`
      const run = state === 'none' ? undefined : await drive(agent, id, copyOf('s', id), state)
      const before = run?.wire()
      const reply = await client.send(method, `/tasks/${id}${query?.(run) ?? ''}`, { headers: headers?.(run) ?? {}, body })

      const expected = answer(state)
      if (typeof expected === 'string') {
        if (method === 'HEAD') t.equal(reply.status, 404, name)
        else isProblem(t, reply, expected, name)
        if (expected === 'precondition-failed' || expected === 'task-finished') {
          t.same(reply.problem['task'], JSON.parse(JSON.stringify(before)), `${name}: the record`)
          t.equal(reply.headers.etag, run?.etag, `${name}: its tag`)
        }
      } else t.equal(reply.status, expected, name)
      if (expected === 200 || expected === 202) {
        t.equal(reply.headers.etag, registry.find(id)?.etag, `${name}: tag`)
        t.equal('retry-after' in reply.headers, isActive(state), `${name}: Retry-After only while active`)
        if (method === 'HEAD') t.equal(reply.text, '')
        else t.same(reply.task, JSON.parse(JSON.stringify(registry.find(id)?.wire())), `${name}: the record`)
      }
      if (expected === 304) t.match({ headers: reply.headers, text: reply.text }, { headers: { etag: run?.etag }, text: '' }, name)
      if (method === 'GET' && (expected === 200 || expected === 304)) t.match(reply.headers, { vary: 'Prefer', 'cache-control': 'private, no-cache' }, name)

      const stateAfter = after?.(state) ?? state
      t.equal(registry.find(id)?.state ?? 'none', stateAfter, `${name}: the state afterwards`)
      if (stateAfter === state) t.equal(registry.find(id)?.etag, run?.etag, `${name}: nothing else has changed`)
      if (stateAfter === 'canceling') t.equal((await bodies.of(id)).context.signal.aborted, true, `${name}: the body is told`)
      if (method === 'PATCH') t.same((await (run && bodies.of(id)))?.bandwidths ?? [], expected === 200 ? [(body as typeof bandwidth).bandwidth] : [], `${name}: the bandwidth`)
    }
  })
}

t.test('what can be neither canceled nor tuned says so, and ends by itself', async t => {
  const { client, bodies } = await startAgent(t)
  await client.put('/tasks/a', deletionOf('x'), { prefer: 'respond-async' })
  const canceled = await client.delete('/tasks/a')
  isProblem(t, canceled, 'task-not-cancelable')
  t.match(canceled.problem['task'], { id: 'a', cancelable: false })
  t.ok(canceled.etag)
  isProblem(t, await client.patch('/tasks/a', bandwidth), 'task-not-tunable')
  const body = await bodies.of('a')
  t.equal(body.context.signal.aborted, false)
  await body.succeed()
  t.equal((await client.delete('/tasks/a')).status, 200, 'once it has finished there is nothing to cancel')
  isProblem(t, await client.patch('/tasks/a', bandwidth), 'task-finished')
})

t.test('the 404 tells a restart from an expiry', async t => {
  const { client, registry } = await startAgent(t)
  for (const reply of [await client.get('/tasks/a'), await client.delete('/tasks/a'), await client.patch('/tasks/a', bandwidth)]) {
    isProblem(t, reply, 'task-not-found')
    t.match(reply.json, { instance: registry.instance, startedAt: '2026-01-01T00:00:00.000Z', detail: /restarted/ })
  }
})

t.test('a cancel reaches a task in the queue, and it never begins', async t => {
  const { client, bodies } = await startAgent(t, { queues: { copy: 1 } })
  await client.put('/tasks/a', copyOf('s', 'a'), { prefer: 'respond-async' })
  const queued = await client.put('/tasks/b', copyOf('s', 'b'), { prefer: 'respond-async' })
  t.match(queued.task, { state: 'pending', progress: { phase: 'queued', queuePosition: 1 } })
  const reply = await client.delete('/tasks/b')
  t.equal(reply.status, 202)
  t.match((await client.get('/tasks/b')).task, { state: 'canceled' })
  await (await bodies.of('a')).succeed()
  t.equal(bodies.all.length, 1)
})

t.test('a late cancel does not stop the next run of the id', async t => {
  const agent = await startAgent(t)
  const { client, bodies } = agent
  const first = await drive(agent, 'a', copyOf('s', 'a'), 'succeeded')
  const next = await client.put('/tasks/a', copyOf('s', 'a'), { 'if-match': first.etag, prefer: 'respond-async' })
  t.equal(next.status, 202)
  for (const reply of [await client.delete(`/tasks/a?runId=${first.runId}`), await client.delete('/tasks/a', { 'if-match': first.etag })]) {
    isProblem(t, reply, 'precondition-failed')
    t.match(reply.problem['task'], { runId: next.task.runId, replaces: first.etag })
  }
  t.equal((await bodies.of('a', 2)).context.signal.aborted, false)
})

t.test('DELETE takes the headers of a generated client: a JSON content type without a body', async t => {
  const agent = await startAgent(t)
  await drive(agent, 'a', copyOf('s', 'a'), 'running')
  const reply = await agent.client.send('DELETE', '/tasks/a', { headers: { 'content-type': 'application/json' } })
  t.match(reply.task, { state: 'canceling' })
})

t.test('a patch is JSON, or a merge-patch, or what curl calls a form', async t => {
  const agent = await startAgent(t)
  await drive(agent, 'a', copyOf('s', 'a'), 'running')
  const types = ['application/json', 'application/merge-patch+json', 'application/x-www-form-urlencoded', 'application/json; charset=utf-8']
  for (const [n, type] of types.entries()) t.equal((await agent.client.patch('/tasks/a', { bandwidth: n + 1 }, { 'content-type': type })).status, 200, type)
  t.same((await agent.bodies.of('a')).bandwidths, [1, 2, 3, 4])
})
