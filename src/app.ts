import { randomBytes } from 'node:crypto'
import { lookup } from 'node:dns/promises'
import { once } from 'node:events'
import { chmodSync } from 'node:fs'
import type { Server } from 'node:net'
import { Server as TlsServer } from 'node:tls'
import type { FastifyBaseLogger } from 'fastify'
import type { Agent, ConfigurationStatus } from './api/agent.ts'
import { kinds } from './api/kinds.ts'
import { Credentials, type AuthConfig } from './auth/credentials.ts'
import { checkListener, isLoopback, type Config, type ListenConfig, type Reread } from './config.ts'
import { Feed } from './events/feed.ts'
import { Gluster } from './gluster/cli.ts'
import { createGlusterKinds } from './gluster/kinds.ts'
import { Operations } from './gluster/operations.ts'
import { Poller } from './gluster/poller.ts'
import { agentRoutes } from './http/agent.ts'
import { documentRoutes } from './http/document.ts'
import { domainRoutes } from './http/domains.ts'
import { eventRoutes } from './http/events.ts'
import { loginRoutes } from './http/login.ts'
import { pageRoutes } from './http/page.ts'
import { limitRate } from './http/rate.ts'
import { glusterRoutes } from './http/gluster.ts'
import { metricsRoutes } from './http/metrics.ts'
import { maxWaitSeconds } from './http/prefer.ts'
import { addSchemas } from './http/schemas.ts'
import { backlog, createServer, listenAlso } from './http/server.ts'
import { freeSocketPath } from './http/socket.ts'
import { Standing } from './http/standing.ts'
import { taskRoutes } from './http/tasks.ts'
import type { App } from './http/types.ts'
import { Metrics } from './metrics/metrics.ts'
import { Domain, type DomainOptions, type FoundDomain } from './storage/attached-domain.ts'
import { Discovery } from './storage/discovery.ts'
import { Domains } from './storage/domains.ts'
import { Recovery } from './storage/recovery.ts'
import { storageKinds } from './storage/tasks.ts'
import { Reloader } from './reload.ts'
import { confinementInForce, type ConfinementInForce } from './system/confinement.ts'
import { lookForUnanswered } from './system/tcp.ts'
import { TaskRegistry } from './tasks/registry.ts'

/** The version of the API. */
export const version = '0.2.0'

/** The whole agent, made but not yet listening. */
export interface Application {
  readonly http: App
  readonly instance: string
  /** Starts the domains' processes and listens. Resolves with the addresses, as URLs or `unix:` paths. */
  start (): Promise<string[]>
  /** Resolves when every domain has been looked at and prepared, or cannot be. */
  prepared (): Promise<void>
  /**
   * Reads the configuration again. Tokens, certificates, allowed clients and domains change with it, for connections and
   * requests from now on; what else is different takes a restart. Streams and long polls go on while their callers are still
   * allowed.
   */
  reload (): Promise<ConfigurationStatus>
  /** Answers whoever waits, ends streams and connections, and stops. Copies stay as they are on the storage. */
  stop (): Promise<void>
}

/**
 * Builds every object of the agent once and wires them. Nothing else constructs. Throws when tokens or certificates cannot be
 * read.
 *
 * @param reread reads the configuration again, for a reload; without it, only the files that it names are read.
 */
export function createApp (config: Config, log: FastifyBaseLogger, reread: () => Reread = () => ({ config, auth: config.auth, problems: [] })): Application {
  const credentials = new Credentials(config.auth)
  const instance = randomBytes(6).toString('hex')
  const startedAt = new Date().toISOString()

  const metrics = new Metrics({
    version,
    hostId: config.hostId,
    tasks: function * () { for (const run of registry.runs()) yield run.wire() },
    lateReads: () => domains.all().map(({ id, late }) => ({ domain: id, late })),
    locks: () => domains.all().map(({ id, locks: { status } }) => ({ domain: id, state: status?.state ?? 'checking' })),
    gluster: () => gluster.counters,
    events: () => feed,
    configuration: () => reloader.status
  })
  // who the agent is does not change with its configuration
  const self = { hostId: config.hostId, instance }
  /** Domains with what holds for all of them. */
  const attachable = ({ sanlock, copy: { keepDoneDays } }: Config, found: readonly FoundDomain[]): DomainOptions[] => found.map(domain => ({
    ...domain,
    agent: self,
    keepDoneDays,
    ...(domain.leases === 'sanlock' && { sanlockHostId: sanlock.hostId })
  }))
  const domains: Domains = new Domains(options => new Domain(options, log, took => { metrics.domainRead(options.id, took) }, id => domains.all().find(domain => domain.id === id)), attachable(config, config.domains.map(domainOptions)))
  const discovery = new Discovery(log)
  let wanted = config
  let attaching: Promise<void> = Promise.resolve()
  /** One look after the other: the last one decides. */
  const attach = () => {
    // whoever asked for an earlier look was told that it failed
    attaching = attaching.catch(() => {}).then(async () => {
      const { domains: configured, discover } = wanted
      const found = discover.length === 0 ? [] : await discovery.find(discover, configured.map(domainOptions), domains.options())
      domains.reconcile(attachable(wanted, [...configured.map(domainOptions), ...found.map(domain => ({ ...domain, leases: wanted.leases }))]))
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
    lookForUnanswered,
    log
  })
  const gluster = new Gluster({ called: seconds => { metrics.glusterCall(seconds) } })
  const operations = new Operations({ gluster, hostId: config.hostId })
  const poller = new Poller({
    operations: { list: async () => await operations.look() },
    pollSeconds: config.gluster.pollSeconds,
    onChange: operation => { feed.operation(operation) },
    onProgress: operation => { feed.operationProgress(operation) },
    log
  })
  const glusterKinds = createGlusterKinds({
    gluster,
    hostId: config.hostId,
    retentionSeconds: config.tasks.retentionSeconds,
    stalledSince: operationId => operations.stalledSince(operationId),
    changed: ended => {
      operations.expire()
      if (ended !== undefined) poller.settle(ended)
      poller.nudge()
    }
  })
  const registry: TaskRegistry = new TaskRegistry({
    kinds: { ...storageKinds(domains, host, config.copy, news => { feed.image(news) }, metrics, taskId => { recovery.overdue(taskId) }), ...glusterKinds },
    instance,
    observer: {
      transition: task => {
        metrics.transition(task)
        feed.transition(task)
      },
      progress: task => { feed.progress(task) },
      forgotten: task => { feed.forgotten(task) }
    },
    log,
    retentionMs: config.tasks.retentionSeconds * 1000,
    maxActive: config.tasks.maxActive,
    maxRetained: config.tasks.maxRetained,
    acceptDeadlineMs: config.tasks.acceptDeadlineSeconds * 1000,
    queues: { copy: config.copy.maxConcurrent }
  })

  const recovery: Recovery = new Recovery({
    policy: config.recovery,
    hostId: config.hostId,
    domains: () => domains.all(),
    // the record of an attempt that failed gives way to the next
    claim: (id, spec) => { registry.claim(id, spec, registry.find(id)?.finished === true ? { ifMatch: '*' } : {}) },
    log
  })

  const agent: Omit<Agent, 'confinement'> = {
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
    links: { tasks: '/tasks', domains: '/domains', events: '/events', operations: '/gluster/operations', health: '/healthz', readiness: '/readyz', metrics: '/metrics', document: '/openapi.json', reference: '/docs' }
  }

  const standing = new Standing(credentials, log)
  const applyAuth = (auth: AuthConfig): string[] => {
    // the listeners stay as they are, whatever the new configuration says of them
    const problems = config.listen.flatMap(listener => attemptToListen(listener, auth))
    problems.push(...credentials.reload(auth))
    for (const server of [http.server, ...others]) {
      if (!(server instanceof TlsServer) || credentials.certificates === undefined) continue
      const { options } = credentials.certificates
      server.setSecureContext(options)
      // left out there, and looked at with each connection: without it, nobody would be asked for his when "clientCa" is new
      Object.assign(server, { requestCert: options.requestCert })
    }
    void standing.recheck()
    return problems
  }
  const reloader: Reloader = new Reloader({
    reread,
    applyAuth,
    applyDomains: async next => {
      wanted = next
      // without waiting for the domains: one may hang
      await attach()
    },
    log
  })
  const [listener] = config.listen
  const http = createServer({
    log,
    instance,
    allowedHosts: [...config.http.allowedHosts, ...config.publicUrl !== undefined && URL.canParse(config.publicUrl) ? [new URL(config.publicUrl).hostname] : []],
    allowedOrigins: config.http.allowedOrigins,
    maxBodyBytes: config.http.maxBodyBytes,
    credentials,
    tls: listener !== undefined && 'tls' in listener && listener.tls,
    limits: config.http
  })
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
  if (credentials.required) limitRate(http, config.http.maxRequestsPerSecond)
  // the document is made from the routes that come after it
  documentRoutes(http, { version })
  http.register(async (app: App) => {
    metricsRoutes(app, { metrics })
    agentRoutes(app, { agent: async () => ({ ...agent, confinement: await confinementInForce() }), config, domains, operations, reloader })
    taskRoutes(app, { registry, startedAt, lastEventId: () => feed.lastEventId, standing })
    domainRoutes(app, { domains })
    glusterRoutes(app, { operations, standing })
    eventRoutes(app, { feed, standing, tasks: { find: id => registry.find(id)?.wire() } })
    loginRoutes(app, credentials, standing)
    await app.register(pageRoutes)
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
      logConfinement(await confinementInForce(), log)
      const [first, ...more] = config.listen
      if (first === undefined) throw new Error('a configuration always has a listener')
      restrict(http.server, first)
      await http.listen({ ...await socketOptions(first), backlog, listenTextResolver: address => `listening on ${address}` })
      for (const listener of more) {
        const server = await listenAlso(http, await socketOptions(listener), 'tls' in listener && listener.tls ? credentials.certificates?.options : undefined)
        restrict(server, listener)
        others.push(server)
      }
      // after that: callers are answered while the domains are still being looked at
      domains.start()
      void attach()
      // nobody is made to wait for the programs that these begin with
      poller.start()
      recovery.start(attaching.then(async () => { await domains.prepared() }))
      return [http.server, ...others].map(addressOf)
    },
    prepared: async () => {
      await attaching
      await domains.prepared()
    },
    reload: async () => await reloader.reload(),
    stop: async () => { await http.close() }
  }
}

/** A domain as it is attached. */
function domainOptions ({ mode, ...domain }: Config['domains'][number]): FoundDomain {
  return { ...domain, ...(mode !== undefined && { mode: Number.parseInt(mode, 8) }) }
}

/** What is wrong with a listener that goes on with another authentication. */
function attemptToListen (listener: ListenConfig, auth: AuthConfig): string[] {
  try {
    checkListener(listener, auth)
    return []
  } catch (error) {
    return [error instanceof Error ? error.message : String(error)]
  }
}

async function socketOptions (listener: ListenConfig): Promise<{ host: string, port: number } | { path: string }> {
  // a copy: listen() writes into what it is given, and the configuration is frozen. For "localhost" itself Fastify would
  // make a second server, and not wait for its replies
  if (!('unix' in listener)) {
    const { host, port } = listener
    const { address } = await lookup(host)
    // a name is what the resolver makes of it, and more was allowed for this one than for others
    if (isLoopback(host) && !isLoopback(address)) throw new Error(`${host} is ${address} here, which others can reach. Set "listen.host" to "127.0.0.1".`)
    return { host: address, port }
  }
  await freeSocketPath(listener.unix)
  return { path: listener.unix }
}

/**
 * Sets the mode of a socket file as soon as there is one. Until then it is what the umask makes of it; an unusual one
 * that lets others write leaves a few microseconds.
 */
function restrict (server: Server, listener: ListenConfig): void {
  if (!('unix' in listener)) return
  const { unix, mode } = listener
  const set = () => { chmodSync(unix, parseInt(mode, 8)) }
  if (server.listening) set()
  else server.once('listening', set)
}

function addressOf (server: Server): string {
  const address = server.address()
  if (address === null || typeof address === 'string') return `unix:${address ?? ''}`
  return `http${server instanceof TlsServer ? 's' : ''}://${address.family === 'IPv6' ? `[${address.address}]` : address.address}:${address.port}`
}

function logConfinement (confinement: ConfinementInForce, log: FastifyBaseLogger): void {
  const { fileSystem, user } = confinement
  const as = user === 'owner' ? 'as the owner of the images' : 'as the user of the agent'
  if (fileSystem === 'none') {
    log.warn({ confinement }, `qemu-img runs ${as}, but may open any file of that user: this kernel has no Landlock, and bubblewrap (bwrap) does not work. Install bubblewrap, or a kernel with Landlock`)
  } else log.info({ confinement }, `qemu-img runs ${as} and opens nothing but the images it is given (${fileSystem})`)
}
