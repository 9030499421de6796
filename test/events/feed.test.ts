import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import t, { type Test } from 'tap'
import { setImmediate as turn } from 'node:timers/promises'
import type { Task } from '../../src/api/task.ts'
import type { Wanted } from '../../src/events/filter.ts'
import { Feed, type FeedOptions } from '../../src/events/feed.ts'
import { operationOf } from '../helpers/operations.ts'
import { Subscriber, type Address, type Frame } from '../helpers/subscriber.ts'
import { taskOf } from '../helpers/tasks.ts'

interface World {
  feed: Feed
  tasks: Map<string, Task>
  address: Address
  /** Puts a task into its next revision, and tells. */
  move (id: string, state: Task['state']): Task
  follow (cursor?: string, wanted?: Wanted): Subscriber
}

/** A feed over real sockets, without the routes. */
async function worldOf (t: Test, options: Partial<FeedOptions> = {}): Promise<World> {
  const tasks = new Map<string, Task>()
  const feed = new Feed({ instance: 'here', snapshot: () => tasks.values(), ...options })
  const wishes = new Map<string, Wanted>()
  const server = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? '', 'http://agent')
    feed.listen({ response, headers: {}, address: '127.0.0.1', start: feed.locate(searchParams.get('cursor') ?? undefined) }, wishes.get(pathname) ?? {})
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  t.teardown(async () => {
    await feed.close()
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
  })
  const address = { host: '127.0.0.1', port }
  return {
    feed,
    tasks,
    address,
    move: (id, state) => {
      const task = taskOf({ id, state, revision: (tasks.get(id)?.revision ?? -1) + 1 })
      tasks.set(id, task)
      feed.transition(task)
      return task
    },
    follow: (cursor, wanted = {}) => {
      const path = `/${wishes.size}`
      wishes.set(path, wanted)
      return new Subscriber(address, cursor === undefined ? path : `${path}?cursor=${encodeURIComponent(cursor)}`)
    }
  }
}

const named = (...names: string[]) => ({ event }: Frame) => event !== undefined && names.includes(event)

t.test('a stream begins with a snapshot without ids, then synced, then what happens', async t => {
  const { feed, move, follow } = await worldOf(t)
  move('a', 'running')
  const b = move('b', 'pending')
  const subscriber = follow()
  await subscriber.event('synced')
  move('b', 'running')
  await subscriber.until(({ id }) => id === 'here-3')
  t.match(subscriber.frames.map(({ event, id }) => ({ event, id })), [
    { event: undefined, id: undefined },
    { event: 'task', id: undefined },
    { event: 'task', id: undefined },
    { event: 'synced', id: 'here-2' },
    { event: 'task', id: 'here-3' }
  ])
  const { retry } = subscriber.frames[0] ?? {}
  t.ok(retry !== undefined && retry >= 2000 && retry <= 5000)
  t.same(subscriber.frames[2]?.data, b)
  t.equal(feed.lastEventId, 'here-3')
  t.match(subscriber.response?.headers, { 'content-type': 'text/event-stream', 'cache-control': 'no-store, no-transform', 'x-accel-buffering': 'no' })
})

t.test('with a cursor the stream goes on right behind it', async t => {
  const { move, follow } = await worldOf(t)
  for (const state of ['pending', 'running', 'canceling', 'canceled'] as const) move('a', state)
  const subscriber = follow('here-2')
  await subscriber.event('synced')
  t.same(subscriber.frames.slice(1).map(({ event, id }) => `${event} ${id}`), ['task here-3', 'task here-4', 'synced here-4'])
})

t.test('with the newest cursor the stream is synced at once', async t => {
  const { feed, move, follow } = await worldOf(t)
  move('a', 'pending')
  const subscriber = follow(feed.lastEventId)
  await subscriber.event('synced')
  t.same(subscriber.names(), ['synced'])
})

t.test('a cursor that leads nowhere is answered with reset and everything anew', async t => {
  const { move, follow } = await worldOf(t, { history: 2 })
  for (const id of ['a', 'b', 'c', 'd']) move(id, 'pending')
  for (const [cursor, reason] of [['there-3', 'instance-changed'], ['here-1', 'evicted'], ['here-5', 'future'], ['nonsense', 'malformed'], ['here-end', 'malformed']] as const) {
    const subscriber = follow(cursor)
    await subscriber.event('synced')
    t.same(subscriber.names(), ['reset', 'task', 'task', 'task', 'task', 'synced'])
    t.same(subscriber.frames[1]?.data, { reason })
    t.equal(subscriber.lastEventId, 'here-4')
  }
})

t.test('every kind of event arrives as it was told, under its own name', async t => {
  const { feed, move, follow } = await worldOf(t)
  const subscriber = follow()
  await subscriber.event('synced')
  const task = move('a', 'running')
  const image = { domain: 'local', image: 'b.raw', state: 'ok', observedAt: '2026-01-01T00:00:00.000Z' } as const
  const operation = operationOf()
  feed.image(image)
  feed.operation(operation)
  feed.operationProgress(operationOf({ missing: ['b'] }))
  feed.progress({ ...task, tick: 1, progress: { phase: 'copying', bytesDone: 5 } })
  await subscriber.event('progress')
  feed.forgotten(task)
  await subscriber.event('forgotten')
  const instance = 'here'
  t.same(subscriber.frames.slice(2), [
    { id: 'here-1', event: 'task', data: task },
    { id: 'here-2', event: 'image', data: image },
    { id: 'here-3', event: 'operation', data: operation },
    { event: 'operationProgress', data: operationOf({ missing: ['b'] }) },
    { event: 'progress', data: { instance, id: 'a', runId: 'run-a', revision: 0, tick: 1, progress: { phase: 'copying', bytesDone: 5 } } },
    { id: 'here-4', event: 'forgotten', data: { id: 'a', runId: 'run-a' } }
  ])
})

t.test('what several events of one turn come to is one write', async t => {
  const { feed, move, follow } = await worldOf(t)
  const subscriber = follow()
  await subscriber.event('synced')
  const chunks: string[] = []
  subscriber.response?.on('data', (text: string) => { chunks.push(text) })
  for (const state of ['pending', 'running', 'succeeded'] as const) move('a', state)
  feed.progress(taskOf({ id: 'b', tick: 1, progress: { phase: 'copying' } }))
  await subscriber.event('progress')
  t.equal(chunks.length, 1)
})

t.test('a transition makes the numbers before it pointless', async t => {
  const { feed, move, follow } = await worldOf(t)
  const subscriber = follow()
  await subscriber.event('synced')
  const task = move('a', 'running')
  for (let tick = 1; tick <= 3; tick++) feed.progress({ ...task, tick, progress: { phase: 'copying' } })
  move('a', 'succeeded')
  feed.progress(taskOf({ id: 'b', tick: 9, progress: { phase: 'copying' } }))
  await subscriber.event('progress')
  t.same(subscriber.names(), ['synced', 'task', 'task', 'progress'])
  t.match(subscriber.frames.at(-1)?.data, { id: 'b', tick: 9 })
})

t.test('who comes back gets the newest numbers, too', async t => {
  const { feed, follow, tasks } = await worldOf(t)
  const task = taskOf({ id: 'a', progress: { phase: 'copying' } })
  tasks.set('a', task)
  feed.transition(task)
  for (let tick = 1; tick <= 3; tick++) feed.progress({ ...task, tick })
  const subscriber = follow('here-1')
  t.match((await subscriber.event('progress')).data, { tick: 3 })
  t.same(subscriber.names(), ['synced', 'progress'])
})

t.test('filters select what the snapshot, the ring and the present show', async t => {
  const { feed, move, follow } = await worldOf(t)
  move('a-1', 'running')
  move('b-1', 'running')
  const byId = follow(undefined, { idPrefix: 'a-' })
  const byType = follow(undefined, { types: ['image'] })
  const returning = follow('here-0', { idPrefix: 'b-' })
  await Promise.all([byId, byType, returning].map(subscriber => subscriber.event('synced')))
  move('b-1', 'succeeded')
  move('a-1', 'succeeded')
  feed.image({ domain: 'local', image: 'x.raw', state: 'absent', observedAt: '2026-01-01T00:00:00.000Z' })
  await Promise.all([byId, byType, returning].map(subscriber => subscriber.event('image')))
  const seen = (subscriber: Subscriber) => subscriber.frames.slice(1).map(({ event, data }) => String(data?.['id'] ?? event))
  t.same(seen(byId), ['a-1', 'synced', 'a-1', 'image'])
  t.same(seen(byType), ['synced', 'image'])
  t.same(seen(returning), ['b-1', 'synced', 'b-1', 'image'])
})

t.test('a heartbeat moves the cursor of who sees nothing, so that it is remembered', async t => {
  const { feed, move, follow } = await worldOf(t, { heartbeatMs: 20, history: 4 })
  const subscriber = follow(undefined, { types: ['image'] })
  await subscriber.event('synced')
  for (let n = 0; n < 10; n++) {
    move('a', 'running')
    await turn()
  }
  await subscriber.until(({ id, event }) => event === undefined && id === 'here-10')
  t.ok(subscriber.comments > 0)
  const returning = follow(subscriber.lastEventId, { types: ['image'] })
  await returning.event('synced')
  t.same(returning.names(), ['synced'])
  t.equal(returning.lastEventId, feed.lastEventId)
})

t.test('when more happens in one turn than is remembered, everybody is told so', async t => {
  const { feed, move, follow } = await worldOf(t, { history: 4 })
  const subscriber = follow()
  await subscriber.event('synced')
  for (let n = 0; n < 10; n++) move('a', 'running')
  await subscriber.until(({ id }) => id === feed.lastEventId)
  t.same(subscriber.names(), ['synced', 'reset', 'task', 'synced'])
  t.match(subscriber.frames[3]?.data, { id: 'a', revision: 9 })
})

t.test('a snapshot that the ring has overtaken begins again', async t => {
  const ids = Array.from({ length: 1500 }, (_, n) => `t${n}`)
  const { feed, move, follow } = await worldOf(t, { history: 3 })
  for (const id of ids) move(id, 'pending')
  const subscriber = follow(undefined, { idPrefix: 't' })
  while (feed.subscribers === 0) await turn()
  // between two parts of the snapshot more happens than is remembered
  for (let n = 0; n < 5; n++) move('t1', 'running')
  await subscriber.event('synced')
  t.match(subscriber.frames.find(named('reset')), { data: { reason: 'overtaken' } })
  const behindReset = subscriber.names().slice(subscriber.names().indexOf('reset') + 1)
  t.same(behindReset, [...ids.map(() => 'task'), 'synced'])
})

t.test('snapshot and present join without a gap and without a repetition while everything moves', async t => {
  const { feed, tasks, move, follow } = await worldOf(t)
  for (let n = 0; n < 3000; n++) move(`t${n}`, 'pending')
  const subscribers: Subscriber[] = []
  for (let n = 0; n < 600; n++) {
    for (let m = 0; m < 3; m++) move(`t${(n * 7919 + m * 104729) % 3100}`, 'running')
    if (n % 30 === 0) subscribers.push(follow(n % 60 === 0 ? undefined : 'there-1'))
    await turn()
  }
  move('last', 'succeeded')
  for (const subscriber of subscribers) {
    await subscriber.until(({ data }) => data?.['id'] === 'last')
    const known = new Map<string, number>()
    let synced = false
    for (const { event, data, id } of subscriber.frames) {
      if (event === 'synced') synced = true
      if (event !== 'task') continue
      const { id: task, revision } = data as unknown as Task
      const before = known.get(task)
      if (before !== undefined && revision !== before + 1) t.fail(`task ${task} went from revision ${before} to ${revision}`)
      if (synced !== (id !== undefined)) t.fail('ids come with synced, not earlier and not later')
      known.set(task, revision)
    }
    t.same([...known].sort(), [...tasks].map(([id, { revision }]) => [id, revision]).sort())
  }
  t.equal(feed.dropped.backlog, 0)
})

t.test('subscribers that leave leave nothing behind', async t => {
  const { feed, follow } = await worldOf(t)
  const subscribers = Array.from({ length: 20 }, () => follow())
  await Promise.all(subscribers.map(subscriber => subscriber.event('synced')))
  t.equal(feed.subscribers, 20)
  for (const subscriber of subscribers) subscriber.close()
  while (feed.subscribers > 0) await turn()
  t.equal(feed.opened, 20)
})

t.test('a request whose client has gone before it was answered opens nothing', async t => {
  const feed = new Feed({ instance: 'here', snapshot: () => [] })
  let gone: (() => void) | undefined
  const answered = new Promise<void>(resolve => { gone = resolve })
  const server = createServer((_, response) => {
    response.socket?.destroy()
    feed.listen({ response, headers: {}, address: undefined, start: { at: 'beginning' } }, {})
    gone?.()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const sockets: Socket[] = []
  server.on('connection', socket => sockets.push(socket))
  const { port } = server.address() as AddressInfo
  const subscriber = new Subscriber({ host: '127.0.0.1', port }, '/')
  await answered
  t.equal(feed.subscribers, 0)
  await subscriber.ended
  server.close()
  await once(server, 'close')
})
