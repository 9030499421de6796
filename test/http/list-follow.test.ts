import type { AddressInfo } from 'node:net'
import t from 'tap'
import type { Task } from '../../src/api/task.ts'
import { Feed } from '../../src/events/feed.ts'
import { eventRoutes } from '../../src/http/events.ts'
import { addSchemas } from '../../src/http/schemas.ts'
import { createServer } from '../../src/http/server.ts'
import { taskRoutes } from '../../src/http/tasks.ts'
import { copyOf, makeRegistry, silent } from '../helpers/http-agent.ts'
import { HttpClient } from '../helpers/http-client.ts'
import { Subscriber } from '../helpers/subscriber.ts'

t.test('a list, read page by page while everything moves, and the stream behind it leave no gap', async t => {
  const feed: Feed = new Feed({ instance: 'feedfacecafe', history: 100_000, snapshot: () => [], closeMs: 50 })
  const { registry, bodies } = makeRegistry(t, { observer: feed, queues: {} })
  bodies.script = body => { body.accept() }
  const app = createServer({ log: silent, instance: registry.instance, allowedHosts: [], maxBodyBytes: 1024 })
  addSchemas(app)
  taskRoutes(app, { registry, startedAt: '2026-01-01T00:00:00.000Z', lastEventId: () => feed.lastEventId })
  eventRoutes(app, { feed, tasks: { find: id => registry.find(id)?.wire() } })
  await app.listen({ host: '127.0.0.1', port: 0 })
  const { port } = app.server.address() as AddressInfo
  const client = new HttpClient({ host: '127.0.0.1', port })
  t.teardown(async () => {
    client.close()
    await app.close()
  })
  let made = 0
  const move = async () => {
    registry.claim(`t${made}`, copyOf('s', `t${made}`))
    const end = await bodies.of(`t${Math.floor(made++ / 2)}`)
    if (made % 2 === 0) await end.succeed()
  }
  for (let n = 0; n < 100; n++) await move()

  for (let round = 0; round < 20; round++) {
    const known = new Map<string, Task>()
    let from = ''
    let next: string | undefined
    do {
      const [page] = await Promise.all([client.get(`/tasks?limit=9${next === undefined ? '' : `&cursor=${next}`}`), move()])
      const { items, lastEventId, next: more } = page.list
      if (next !== undefined) t.equal(lastEventId, from, 'every page says what the first one says')
      from = lastEventId
      for (const task of items) known.set(task.runId, task)
      next = more
    } while (next !== undefined)
    await move()
    const subscriber = new Subscriber({ host: '127.0.0.1', port }, `/events?type=task&lastEventId=${from}`)
    await subscriber.event('synced')
    t.same(subscriber.names().filter(name => name === 'reset'), [])
    for (const { event, data } of subscriber.frames) {
      if (event !== 'task') continue
      const task = data as unknown as Task
      const before = known.get(task.runId)
      // a page that was read later than the first shows some of it already
      if (before !== undefined && before.revision >= task.revision) continue
      if (task.revision !== (before?.revision ?? -1) + 1) t.fail(`${task.id} went from ${before?.revision} to ${task.revision}`)
      known.set(task.runId, task)
    }
    t.same([...known.values()].map(({ id, state, revision }) => `${id} ${state} ${revision}`).sort(), [...registry.runs()].map(({ id, state, revision }) => `${id} ${state} ${revision}`).sort())
    subscriber.close()
  }
})
