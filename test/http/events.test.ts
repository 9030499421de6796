import { once } from 'node:events'
import { connect, type AddressInfo } from 'node:net'
import { Ajv } from 'ajv'
import formats from 'ajv-formats'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import * as events from '../../src/api/event.ts'
import * as glusterKinds from '../../src/api/gluster-kinds.ts'
import * as kinds from '../../src/api/kinds.ts'
import * as operations from '../../src/api/operation.ts'
import { Problem } from '../../src/api/problem.ts'
import * as taskSchemas from '../../src/api/task.ts'
import { Feed, type FeedOptions } from '../../src/events/feed.ts'
import { eventRoutes } from '../../src/http/events.ts'
import { createServer } from '../../src/http/server.ts'
import type { App } from '../../src/http/types.ts'
import { operationOf } from '../helpers/operations.ts'
import { Subscriber } from '../helpers/subscriber.ts'
import { taskOf } from '../helpers/tasks.ts'

type Task = taskSchemas.Task

interface Agent {
  app: App
  feed: Feed
  tasks: Map<string, Task>
  port: number
  move (id: string, state: Task['state'], of?: Partial<Task>): Task
  follow (path: string, lastEventId?: string): Subscriber
  status (path: string, headers?: Record<string, string>): Promise<number>
}

async function agentOf (t: Test, options: Partial<FeedOptions> = {}): Promise<Agent> {
  const tasks = new Map<string, Task>()
  const feed = new Feed({ instance: 'here', snapshot: () => tasks.values(), ...options })
  const app = createServer({ log: pino({ level: 'silent' }), instance: 'here', allowedHosts: ['127.0.0.1'], maxBodyBytes: 1024 })
  app.get('/quick', async () => 'quick')
  eventRoutes(app, { feed, tasks: { find: id => tasks.get(id) } })
  await app.listen({ host: '127.0.0.1', port: 0 })
  t.teardown(async () => { await app.close() })
  const { port } = app.server.address() as AddressInfo
  return {
    app,
    feed,
    tasks,
    port,
    move: (id, state, of = {}) => {
      const task = taskOf({ id, state, revision: (tasks.get(id)?.revision ?? -1) + 1, ...of })
      tasks.set(id, task)
      feed.transition(task)
      return task
    },
    follow: (path, lastEventId) => new Subscriber({ host: '127.0.0.1', port }, path, lastEventId === undefined ? {} : { 'last-event-id': lastEventId }),
    status: async (path, headers = {}) => (await fetch(`http://127.0.0.1:${port}${path}`, { headers })).status
  }
}

/** Checks a frame against the wire schema, with everything that it refers to. */
function validator () {
  const schemas = new Map([events, kinds, glusterKinds, operations, taskSchemas, { Problem }].flatMap(module => Object.values<unknown>(module)).filter(isNamed).map(schema => [schema.$id, schema]))
  const referred = (schema: object): string[] => [...JSON.stringify(schema).matchAll(/"\$ref":"(.*?)#"/g)].map(([, name]) => String(name))
  const needed = new Set(['AgentEvent'])
  for (const name of needed) for (const other of referred(schemas.get(name) ?? {})) needed.add(other)
  const ajv = formats.default(new Ajv({ discriminator: true, strict: false, schemas: [...needed].map(name => schemas.get(name) ?? {}) }))
  return ajv.compile({ $ref: 'AgentEvent#' })
}

function isNamed (value: unknown): value is { $id: string } {
  return typeof value === 'object' && value !== null && '$id' in value
}

/** The names of the frames, once the stream has ended. */
async function whole (subscriber: Subscriber): Promise<string[]> {
  await subscriber.ended
  return subscriber.names()
}

t.test('a stream has its own headers and those of the hooks, and every frame fits the schema', async t => {
  const { feed, move, follow } = await agentOf(t)
  const isEvent = validator()
  move('a', 'running')
  const subscriber = follow('/events', 'there-1')
  await subscriber.event('synced')
  const task = move('a', 'running', { progress: { phase: 'copying', bytesTotal: 5, bytesDone: 1 } })
  feed.image({ domain: 'local', image: 'b.raw', state: 'ok', taskId: 'a', observedAt: '2026-01-01T00:00:00.000Z' })
  feed.operation(operationOf())
  feed.operationProgress(operationOf())
  feed.progress(task)
  feed.forgotten(task)
  feed.progress({ ...task, runId: 'other' })
  await subscriber.event('progress')
  await feed.close()
  await subscriber.ended
  t.match(subscriber.response?.headers, {
    'agent-instance': 'here',
    'content-type': 'text/event-stream',
    'cache-control': 'no-store, no-transform',
    'x-accel-buffering': 'no',
    connection: 'close'
  })
  t.same(subscriber.names(), ['reset', 'task', 'synced', 'task', 'image', 'operation', 'forgotten', 'operationProgress', 'progress', 'bye'])
  for (const frame of subscriber.frames.slice(1)) t.ok(isEvent(frame), `${frame.event}: ${JSON.stringify(isEvent.errors)}`)
})

t.test('the header beats the query, and a cursor is never an HTTP error', async t => {
  const { move, follow } = await agentOf(t)
  for (let n = 0; n < 4; n++) move('a', 'running')
  for (const [query, header, expected] of [
    ['lastEventId=here-3', undefined, ['task', 'synced']],
    ['lastEventId=here-3', 'here-2', ['task', 'task', 'synced']],
    ['lastEventId=here-3', '', ['task', 'synced']],
    ['lastEventId=', undefined, ['task', 'synced']],
    ['lastEventId=here-1&lastEventId=here-2', undefined, ['reset', 'task', 'synced']],
    [`lastEventId=${'9'.repeat(4000)}`, undefined, ['reset', 'task', 'synced']],
    ['lastEventId=%00', undefined, ['reset', 'task', 'synced']],
    ['_=1764', 'here-4, here-5', ['reset', 'task', 'synced']]
  ] as const) {
    const subscriber = follow(`/events?${query}`, header)
    await subscriber.event('synced')
    t.equal(subscriber.response?.statusCode, 200)
    t.same(subscriber.names(), expected, `${query} ${header}`)
  }
})

t.test('filters come as lists or repeated, and only a filter of the wrong shape is refused', async t => {
  const { move, follow, status } = await agentOf(t)
  move('a-1', 'running')
  move('b-1', 'running', { kind: 'storage.mendImage' })
  for (const [query, expected] of [
    ['type=task', ['a-1', 'b-1']],
    ['type=image,progress', []],
    ['type=image&type=task', ['a-1', 'b-1']],
    ['idPrefix=b-', ['b-1']],
    ['kind=storage.copyImage', ['a-1']],
    ['kind=storage.copyImage,storage.mendImage', ['a-1', 'b-1']],
    ['kind=nothing.known', []],
    ['kind=storage.copyImage&idPrefix=b', []]
  ] as const) {
    const subscriber = follow(`/events?${query}`)
    await subscriber.event('synced')
    t.same(subscriber.frames.filter(({ event }) => event === 'task').map(({ data }) => data?.['id']), expected, query)
  }
  t.equal(await status('/events?type=nonsense'), 400)
  t.equal(await status('/events?idPrefix=a&idPrefix=b'), 400)
})

t.test('there is no HEAD for a stream', async t => {
  const { port, move } = await agentOf(t)
  move('a', 'running')
  for (const path of ['/events', '/tasks/a/events']) {
    t.equal((await fetch(`http://127.0.0.1:${port}${path}`, { method: 'HEAD' })).status, 405)
  }
})

t.test('a task is followed to the end of its run, and no further', async t => {
  const { move, follow, status } = await agentOf(t)
  move('a', 'running')
  move('other', 'running')
  const subscriber = follow('/tasks/a/events')
  await subscriber.event('synced')
  move('other', 'failed')
  move('a', 'succeeded')
  move('a', 'pending', { runId: 'next' })
  t.same(await whole(subscriber), ['task', 'synced', 'task'])
  t.match(subscriber.frames.at(-1), { id: 'here-4', data: { state: 'succeeded' } })
  t.equal(await status('/tasks/other/events', { 'last-event-id': 'here-3' }), 204)
})

t.test('a finished task is told at once, and nobody who has seen the end hears it again', async t => {
  const { move, follow, status } = await agentOf(t, { history: 6 })
  move('a', 'running')
  move('a', 'failed')
  const subscriber = follow('/tasks/a/events')
  t.same(await whole(subscriber), ['task', 'synced'])
  t.equal(await status('/tasks/a/events', { 'last-event-id': String(subscriber.lastEventId) }), 204)
  t.equal(await status('/tasks/a/events?lastEventId=here-2'), 204)
  t.same(await whole(follow('/tasks/a/events', 'here-1')), ['task', 'synced'])
  t.same(await whole(follow('/tasks/a/events', 'there-1')), ['reset', 'task', 'synced'])
  for (let n = 0; n < 8; n++) move('b', 'running')
  t.equal(await status('/tasks/a/events?lastEventId=here-8'), 204, 'an end that is not remembered was seen')
  const evicted = follow('/tasks/a/events', 'here-2')
  t.same(await whole(evicted), ['reset', 'task', 'synced'])
  t.equal(await status('/tasks/a/events', { 'last-event-id': String(evicted.lastEventId) }), 204)
})

t.test('an end that was missed is told even when the id has a new run by now', async t => {
  const { move, follow } = await agentOf(t)
  move('a', 'running')
  move('a', 'succeeded')
  move('a', 'pending', { runId: 'next', revision: 0 })
  const subscriber = follow('/tasks/a/events', 'here-1')
  await subscriber.event('synced')
  move('a', 'failed', { runId: 'next' })
  t.same(await whole(subscriber), ['task', 'task', 'synced', 'task'])
  t.same(subscriber.frames.filter(({ event }) => event === 'task').map(({ data }) => data?.['state']), ['succeeded', 'pending', 'failed'])
})

t.test('an unknown task is 404; with a cursor it is forgotten, once', async t => {
  const { move, feed, tasks, follow, status } = await agentOf(t)
  t.equal(await status('/tasks/nobody/events'), 404)
  t.equal(await status('/tasks/%2F/events'), 400)
  const a = move('a', 'running')
  const b = move('b', 'succeeded')
  for (const task of [a, b]) {
    tasks.delete(task.id)
    feed.forgotten(task)
  }
  for (const [cursor, reason] of [['here-1', 'forgotten'], ['there-5', 'instance-changed'], ['x', 'malformed']] as const) {
    const subscriber = follow('/tasks/a/events', cursor)
    t.same(await whole(subscriber), ['reset', 'forgotten'])
    t.match(subscriber.frames.slice(1), [{ data: { reason } }, { data: { id: 'a' } }])
    t.equal(await status('/tasks/a/events', { 'last-event-id': String(subscriber.lastEventId) }), 204)
  }
  t.same(await whole(follow('/tasks/b/events', 'here-1')), ['reset', 'forgotten'], 'the end was not seen')
  t.equal(await status('/tasks/b/events', { 'last-event-id': 'here-2' }), 204, 'the end was seen')
})

t.test('a stream waits for the answers to earlier requests on its connection', async t => {
  const { port, feed } = await agentOf(t)
  const socket = connect(port, '127.0.0.1').setEncoding('utf8')
  t.teardown(() => socket.destroy())
  let text = ''
  socket.on('data', chunk => { text += chunk })
  const request = (path: string) => `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`
  socket.write(request('/quick') + request('/events'))
  while (!text.includes('event: synced')) await once(socket, 'data')
  t.ok(text.indexOf('quick') < text.indexOf('text/event-stream'))
  t.equal(feed.subscribers, 1)
})

t.test('a client of HTTP/1.0 gets the same frames', async t => {
  const { port, feed } = await agentOf(t)
  const socket = connect(port, '127.0.0.1').setEncoding('utf8')
  let text = ''
  socket.on('data', chunk => { text += chunk })
  socket.write('GET /events HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n')
  while (!text.includes('event: synced')) await once(socket, 'data')
  const closed = once(socket, 'close')
  await feed.close()
  await closed
  t.match(text, /\r\n\r\nretry: \d+\n\nid: here-0\nevent: synced\ndata: \{"instance":"here"\}\n\nevent: bye\ndata: \{"reason":"stopping"\}\n\n$/)
})

t.test('the server closes with a hundred streams open: each ends with bye, and nothing is left', async t => {
  const { app, feed, tasks, follow, move } = await agentOf(t)
  for (let n = 0; n < 100; n++) move(`t${n}`, 'running')
  const subscribers = Array.from({ length: 100 }, (_, n) => follow(n % 2 === 0 ? '/events' : `/tasks/t${n}/events`))
  await Promise.all(subscribers.map(subscriber => subscriber.event('synced')))
  for (const id of tasks.keys()) move(id, 'running')
  await app.close()
  const ends = await Promise.all(subscribers.map(whole))
  for (const [n, names] of ends.entries()) {
    t.same(names.slice(names.indexOf('synced')), ['synced', ...Array.from({ length: n % 2 === 0 ? 100 : 1 }, () => 'task'), 'bye'])
  }
  t.equal(feed.subscribers, 0)
  t.same(feed.dropped, { backlog: 0, stalled: 0 })
})
