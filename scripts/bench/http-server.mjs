// A server for `http.mjs`: this agent's own stack with task bodies that do nothing, or a bare Fastify that says the same.
// Forked; says where it listens, and ends with the process that has forked it.
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import Fastify from 'fastify'
import { pino } from 'pino'

const [kind, dist] = process.argv.slice(2)
process.once('disconnect', () => process.exit())

async function agent () {
  const load = async path => await import(pathToFileURL(join(dist, path)).href)
  const { kinds } = await load('api/kinds.js')
  const { Credentials } = await load('auth/credentials.js')
  const { parseConfig } = await load('config.js')
  const { Feed } = await load('events/feed.js')
  const { eventRoutes } = await load('http/events.js')
  const { addSchemas } = await load('http/schemas.js')
  const { createServer } = await load('http/server.js')
  const { taskRoutes } = await load('http/tasks.js')
  const { TaskRegistry } = await load('tasks/registry.js')

  const instance = '5f0c9f1e8a2b'
  // what guards a request is all there, as app.ts has it by default
  const { auth, http } = parseConfig({}, '/')
  // as serve.ts has it; standard output is /dev/null
  const log = pino({ base: { host: 'node1' } })
  const definition = {
    cancelable: true,
    tunable: true,
    check: () => {},
    uses: ({ source, target }) => ({ shared: [`${source.domain}/${source.image}`], exclusive: [`${target.domain}/${target.image}`] }),
    run: async ({ target }, { accepted }) => {
      accepted()
      // what is read, joined and listed stays as it is
      return target.image.startsWith('held') ? await new Promise(() => {}) : target
    }
  }
  const feed = new Feed({ instance, snapshot: function * () { for (const run of registry.runs()) yield run.wire() }, log })
  const registry = new TaskRegistry({
    kinds: Object.fromEntries(kinds.map(kind => [kind, definition])),
    instance,
    observer: feed,
    log,
    // short, so that what is created expires within the bench and that is paid for, too
    retentionMs: 1000,
    maxActive: 1000,
    maxRetained: 100_000,
    acceptDeadlineMs: 10_000,
    queues: {}
  })
  const app = createServer({ log, instance, allowedHosts: [], maxBodyBytes: http.maxBodyBytes, credentials: new Credentials(auth), limits: http })
  addSchemas(app)
  taskRoutes(app, { registry, startedAt: new Date().toISOString(), lastEventId: () => feed.lastEventId })
  eventRoutes(app, { feed, tasks: { find: id => registry.find(id)?.wire() } })
  process.on('message', () => process.send({ subscribers: feed.subscribers, dropped: feed.dropped.backlog + feed.dropped.stalled }))
  return app
}

/** Routes that send what the agent has sent, headers included, made beforehand. It comes as a message. */
async function bare () {
  const { read, joined, created, list } = await new Promise(resolve => process.once('message', resolve))
  const app = Fastify()
  const send = (reply, { status, headers, body }) => reply.code(status).headers(headers).send(body)
  app.get('/tasks/:id', async (request, reply) => send(reply, read))
  app.put('/tasks/:id', async (request, reply) => send(reply, request.params.id === 'held-0' ? joined : created))
  app.get('/tasks', async (request, reply) => send(reply, list))
  return app
}

const app = await (kind === 'agent' ? agent() : bare())
await app.listen({ host: '127.0.0.1', port: 0 })
process.send({ port: app.server.address().port })
