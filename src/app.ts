import { randomBytes } from 'node:crypto'
import { lookup } from 'node:dns/promises'
import { once } from 'node:events'
import type { Server } from 'node:net'
import type { FastifyBaseLogger } from 'fastify'
import type { Agent } from './api/agent.ts'
import { kinds } from './api/kinds.ts'
import type { Config, ListenConfig } from './config.ts'
import { Feed } from './events/feed.ts'
import { Gluster } from './gluster/cli.ts'
import { createGlusterKinds } from './gluster/kinds.ts'
import { Operations } from './gluster/operations.ts'
import { Poller } from './gluster/poller.ts'
import { agentRoutes } from './http/agent.ts'
import { documentRoutes } from './http/document.ts'
import { domainRoutes } from './http/domains.ts'
import { eventRoutes } from './http/events.ts'
import { pageRoutes } from './http/page.ts'
import { glusterRoutes } from './http/gluster.ts'
import { maxWaitSeconds } from './http/prefer.ts'
import { addSchemas } from './http/schemas.ts'
import { createServer, listenAlso } from './http/server.ts'
import { freeSocketPath } from './http/socket.ts'
import { taskRoutes } from './http/tasks.ts'
import type { App } from './http/types.ts'
import { Domain } from './storage/attached-domain.ts'
import { Discovery } from './storage/discovery.ts'
import { Domains } from './storage/domains.ts'
import { Recovery } from './storage/recovery.ts'
import { storageKinds } from './storage/tasks.ts'
import { TaskRegistry } from './tasks/registry.ts'

/** The version of the API. */
export const version = '0.1.0'

/** An accept step that takes longer is decided then. */
const acceptDeadlineMs = 10_000

/** The whole agent, made but not yet listening. */
export interface Application {
  readonly http: App
  readonly instance: string
  /** Starts the domains' processes and listens. Resolves with the addresses, as URLs or `unix:` paths. */
  start (): Promise<string[]>
  /** Resolves when every domain has been looked at and prepared, or cannot be. */
  prepared (): Promise<void>
  /** Attaches and detaches domains as another configuration says. What else is different there takes a restart. */
  reload (config: Config): Promise<void>
  /** Answers whoever waits, ends streams and connections, and stops. Copies stay as they are on the storage. */
  stop (): Promise<void>
}

/** Builds every object of the agent once and wires them. Nothing else constructs. */
export function createApp (config: Config, log: FastifyBaseLogger): Application {
  const instance = randomBytes(6).toString('hex')
  const startedAt = new Date().toISOString()

  const domains = new Domains(options => new Domain(options, log), config.domains)
  const discovery = new Discovery(log)
  let wanted = config
  let attaching: Promise<void> = Promise.resolve()
  /** One look after the other: the last one decides. */
  const attach = () => {
    attaching = attaching.then(async () => {
      const { domains: configured, discover } = wanted
      const found = discover.length === 0 ? [] : await discovery.find(discover, configured, domains.options())
      domains.reconcile([...configured, ...found])
    })
    return attaching
  }
  const host = { id: config.hostId, ...(config.publicUrl !== undefined && { url: config.publicUrl }) }
  const feed: Feed = new Feed({
    instance,
    snapshot: function * () { for (const run of registry.runs()) yield run.wire() },
    history: config.events.history,
    heartbeatMs: config.events.heartbeatSeconds * 1000,
    maxStreams: config.events.maxStreams,
    ...(config.events.maxStreamsPerAddress !== undefined && { maxStreamsPerAddress: config.events.maxStreamsPerAddress }),
    log
  })
  const gluster = new Gluster()
  const operations = new Operations({ gluster, hostId: config.hostId })
  const poller = new Poller({
    operations,
    pollSeconds: config.gluster.pollSeconds,
    onChange: operation => { feed.operation(operation) },
    onProgress: operation => { feed.operationProgress(operation) },
    log
  })
  const glusterKinds = createGlusterKinds({
    gluster,
    hostId: config.hostId,
    retentionSeconds: config.tasks.retentionSeconds,
    changed: ended => {
      operations.expire()
      if (ended !== undefined) poller.settle(ended)
      poller.nudge()
    }
  })
  const registry: TaskRegistry = new TaskRegistry({
    kinds: { ...storageKinds(domains, host, config.copy, news => { feed.image(news) }), ...glusterKinds },
    instance,
    observer: feed,
    log,
    retentionMs: config.tasks.retentionSeconds * 1000,
    maxActive: config.tasks.maxActive,
    maxRetained: config.tasks.maxRetained,
    acceptDeadlineMs,
    queues: { copy: config.copy.maxConcurrent }
  })

  const recovery = new Recovery({
    policy: config.recovery,
    hostId: config.hostId,
    domains: () => domains.all(),
    // the record of an attempt that failed gives way to the next
    claim: (id, spec) => { registry.claim(id, spec, registry.find(id)?.finished === true ? { ifMatch: '*' } : {}) },
    log
  })

  const agent: Agent = {
    name: 'vdsm-tasks',
    version,
    hostId: config.hostId,
    instance,
    startedAt,
    kinds: [...kinds],
    limits: {
      maxActive: config.tasks.maxActive,
      maxRetained: config.tasks.maxRetained,
      maxConcurrentCopies: config.copy.maxConcurrent,
      retentionSeconds: config.tasks.retentionSeconds,
      maxWaitSeconds,
      maxBodyBytes: config.http.maxBodyBytes
    },
    links: { tasks: '/tasks', domains: '/domains', events: '/events', operations: '/gluster/operations', health: '/healthz', readiness: '/readyz', document: '/openapi.json', reference: '/docs' }
  }

  const http = createServer({ log, instance, allowedHosts: config.http.allowedHosts, maxBodyBytes: config.http.maxBodyBytes })
  const others: Server[] = []
  const closing: Array<Promise<unknown>> = []
  // before the streams are waited for, so that long polls are answered and not cut off
  http.addHook('preClose', async () => {
    registry.stop()
    for (const server of others) {
      closing.push(once(server, 'close'))
      server.close()
    }
  })
  addSchemas(http)
  // the document is made from the routes that come after it
  documentRoutes(http, { version })
  http.register(async (app: App) => {
    agentRoutes(app, { agent, domains, operations })
    taskRoutes(app, { registry, startedAt, lastEventId: () => feed.lastEventId })
    domainRoutes(app, { domains })
    glusterRoutes(app, { operations })
    eventRoutes(app, { feed, tasks: { find: id => registry.find(id)?.wire() } })
    await pageRoutes(app)
  })

  http.addHook('onClose', async () => {
    // Fastify waits only for the listener that it knows
    await Promise.all(closing)
    domains.stop()
    recovery.stop()
  })

  return {
    http,
    instance,
    start: async () => {
      await http.ready()
      domains.start()
      void attach()
      poller.start()
      recovery.start(attaching.then(async () => { await domains.prepared() }))
      const [first, ...more] = config.listen
      if (first === undefined) throw new Error('a configuration always has a listener')
      await http.listen({ ...await socketOptions(first), listenTextResolver: address => `listening on ${address}` })
      for (const listener of more) others.push(await listenAlso(http, await socketOptions(listener)))
      return [http.server, ...others].map(addressOf)
    },
    prepared: async () => {
      await attaching
      await domains.prepared()
    },
    reload: async next => {
      wanted = next
      await attach()
      await domains.prepared()
    },
    stop: async () => { await http.close() }
  }
}

async function socketOptions (listener: ListenConfig): Promise<{ host: string, port: number } | { path: string }> {
  // a copy: listen() writes into what it is given, and the configuration is frozen. For "localhost" itself Fastify would
  // make a second server, and not wait for its replies
  if (!('unix' in listener)) return { ...listener, host: (await lookup(listener.host)).address }
  await freeSocketPath(listener.unix)
  return { path: listener.unix }
}

function addressOf (server: Pick<Server, 'address'>): string {
  const address = server.address()
  if (address === null || typeof address === 'string') return `unix:${address ?? ''}`
  return `http://${address.family === 'IPv6' ? `[${address.address}]` : address.address}:${address.port}`
}
