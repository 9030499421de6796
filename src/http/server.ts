import type { ServerOptions as HttpOptions } from 'node:http'
import { Server as HttpsServer } from 'node:https'
import { createServer as createSocketServer, type Server as SocketServer, type Socket } from 'node:net'
import { createServer as createTlsServer, TLSSocket, type TlsOptions } from 'node:tls'
import Fastify, { LogController, type FastifyBaseLogger, type FastifyContextConfig, type FastifyReply, type FastifyRequest, type onRequestHookHandler } from 'fastify'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import { remember } from '../auth/client-certificate.ts'
import { isFor } from '../auth/certificates.ts'
import type { Credentials } from '../auth/credentials.ts'
import { guardAccess } from './access.ts'
import { noteArrivals } from './arrival.ts'
import { audit } from './audit.ts'
import { Connections, type ConnectionLimits } from './connections.ts'
import { makeGuard } from './guard.ts'
import { addCommon, securityHeaders } from './headers.ts'
import { Load, tooMuchUnread } from './overload.ts'
import { answerClientError, pathOf, RouteTable, sendProblem } from './problems.ts'
import { Replies } from './replies.ts'
import { endStuck } from './stuck.ts'
import type { App } from './types.ts'
import { makeValidator } from './validation.ts'

export interface ServerOptions {
  log: FastifyBaseLogger
  instance: string
  allowedHosts: readonly string[]
  /** Origins whose pages may use the agent. */
  allowedOrigins?: readonly string[]
  maxBodyBytes: number
  /** Who may do what; without it, everybody may do everything. */
  credentials?: Credentials
  /** Whether the listener that Fastify itself opens speaks TLS. */
  tls?: boolean
  limits?: ServerLimits
}

/** What clients may ask of the server, in time and number. */
export interface ServerLimits extends ConnectionLimits {
  maxHeaderBytes: number
  headersTimeoutSeconds: number
  requestTimeoutSeconds: number
  maxLagMs: number
}

const noLimits: ServerLimits = { maxConnections: Infinity, maxConnectionsPerAddress: Infinity, maxHeaderBytes: 16 * 1024, headersTimeoutSeconds: 15, requestTimeoutSeconds: 30, maxLagMs: Infinity }

const patience = { afterMs: 90_000, lookEveryMs: 500, maxUnreadBytes: 64 * 1024 * 1024 }

/**
 * Connections that wait to be taken: after a restart all clients come at once. Node's own is 511; the kernel's limit is
 * `net.core.somaxconn`.
 */
export const backlog = 4096

/** How long requests under way may still take when the agent stops. */
const closeWithinMs = 500

/** A Fastify with our manners: strict validation, problems for every error, checked Host and Origin, a bounded stop. */
export function createServer ({ log, instance, allowedHosts, allowedOrigins = [], maxBodyBytes, credentials, tls = false, limits = noLimits }: ServerOptions): App {
  const routes = new RouteTable()
  const guard = makeGuard({ allowedHosts, allowedOrigins, isOurs: name => credentials?.certificates !== undefined && isFor(credentials.certificates.own, name) })
  const http: HttpOptions = {
    // Node would answer a missing Host header by itself, without a problem; ours is the better refusal
    requireHostHeader: false,
    maxHeaderSize: limits.maxHeaderBytes,
    headersTimeout: limits.headersTimeoutSeconds * 1000,
    connectionsCheckingInterval: Math.min(1000, limits.headersTimeoutSeconds * 500)
  }
  const replies = new Replies()
  let closing = false

  const app: App = Fastify({
    logController: new LogController({ disableRequestLogging: true }),
    // typed as the plain kind: nothing here asks which of both it is
    ...(tls ? { https: { ...http, ...credentials?.certificates?.options } } as unknown as { http: HttpOptions } : { http }),
    bodyLimit: maxBodyBytes,
    requestTimeout: limits.requestTimeoutSeconds * 1000,
    // an id may have 255 characters, each of them percent-encoded
    routerOptions: { maxParamLength: 1000, caseSensitive: true },
    // the deadline below ends what is idle; "true" would cut replies that are under way
    forceCloseConnections: 'idle',
    return503OnClosing: false,
    frameworkErrors: (error, request, reply) => {
      const answer = () => {
        // no hook sees these
        addCommon(reply)
        sendProblem(error, request, reply)
      }
      replies.inTurn(request.raw.socket, reply.raw, answer, answer)
    },
    clientErrorHandler: (error, socket) => {
      if (replies.mayAnswer(socket)) answerClientError(error, socket, instance)
      else socket.destroy()
    }
  }).withTypeProvider<TypeBoxTypeProvider>()

  // With a logger of its own, Fastify makes or checks a child of it for each request and listens for the end of each reply: a tenth
  // of a GET (scripts/bench/http.mjs). Few requests have a line in the log: they name themselves, and are written to this one.
  app.log = log
  const common = { ...securityHeaders, 'agent-instance': instance }
  app.decorate('commonHeaders', { values: common, lines: Object.entries(common).flat(), more: allowedOrigins.length > 0 })
  app.setValidatorCompiler(makeValidator(() => app.getSchemas()))
  // fast-json-stringify answers 500 when a value fits no branch of a union
  app.setSerializerCompiler(() => JSON.stringify)
  app.setErrorHandler(sendProblem)
  app.setNotFoundHandler((request, reply) => { routes.refuse(request, reply) })
  // an expectation may be ignored (RFC 9110, 10.1.1); Node's own answer would be no problem
  app.server.on('checkExpectation', (request, response) => { app.server.emit('request', request, response) })
  const leavesTooMuch = endStuck(app.server, patience)
  const note = audit(app, log)
  const load = limits.maxLagMs === Infinity ? undefined : new Load(app, limits.maxLagMs)
  const admits = credentials === undefined ? undefined : guardAccess(app, credentials)
  /** Whether a request is to be served; see `admit`. */
  const judge = (request: FastifyRequest, reply: FastifyReply, { scope = 'read', vital = false }: FastifyContextConfig): boolean => {
    if (!vital) {
      load?.check()
      if (leavesTooMuch(request.raw.socket)) throw tooMuchUnread()
    }
    return admits === undefined || admits(request, reply, scope)
  }
  // What a GET costs is mostly its hooks (scripts/bench/http.mjs): there are few, and no promise in them.
  app.addHook('onRequest', (request, reply, done) => {
    replies.inTurn(request.raw.socket, reply.raw, () => {
      if (guard(request, reply)) return
      if (request.is404) {
        // before the body is read: nobody is told what is wrong with a body that nobody wants
        if (judge(request, reply, {})) routes.refuse(request, reply)
        return
      }
      done()
    }, done)
  })
  app.addHook('onRoute', route => {
    routes.add(route.url, route.method)
    // Fastify makes a route's options anew for each request that looks at them; known beforehand they cost nothing
    const config = route.config ?? {}
    const hook: onRequestHookHandler = (request, reply, done) => {
      if (!judge(request, reply, config)) return
      if (load === undefined || config.vital === true) done()
      else load.admit(request.raw.socket, done)
    }
    route.onRequest = [hook, ...[route.onRequest ?? []].flat()]
  })
  if (log.level === 'debug' || log.level === 'trace') {
    app.addHook('onResponse', (request, reply, done) => {
      log.debug({ reqId: request.id, method: request.method, path: pathOf(request), status: reply.statusCode, ms: Math.round(reply.elapsedTime) }, 'request')
      done()
    })
  }
  app.addHook('onSend', (request, reply, _payload, done) => {
    addCommon(reply)
    note(request, reply)
    if (closing) reply.header('connection', 'close')
    done()
  })
  app.addHook('preClose', async () => {
    closing = true
    // also of connections that other listeners took; by the deadline it has nothing more to do
    const sweep = setInterval(() => { app.server.closeIdleConnections() }, 20).unref()
    setTimeout(() => {
      clearInterval(sweep)
      app.server.closeAllConnections()
    }, closeWithinMs).unref()
  })
  acceptJson(app)
  noteArrivals(app.server)
  if (limits.maxConnections !== Infinity) {
    const connections = new Connections(limits, (details, message) => { log.warn(details, message) })
    watchers.set(app, server => { connections.watch(server) })
    connections.watch(app.server)
  }
  // from our own listener under one name, from others under the other
  for (const event of ['connection', 'secureConnection']) {
    app.server.prependListener(event, (socket: Socket) => { if (socket instanceof TLSSocket) remember(socket, credentials?.certificates) })
  }
  return app
}

/** What counts the connections of an application, for listeners that come later. */
const watchers = new WeakMap<App, (server: SocketServer) => void>()

/**
 * Bodies are JSON whatever curl calls them by default, and merge-patches are JSON, too. A page of another origin gains
 * nothing by that: its PUT needs a preflight, which is not answered. An empty body is no body: generated clients send
 * the content type with DELETE.
 */
function acceptJson (app: App): void {
  const parse = app.getDefaultJsonParser('error', 'error')
  app.removeAllContentTypeParsers()
  app.addContentTypeParser(['application/json', 'application/merge-patch+json', 'application/x-www-form-urlencoded'], { parseAs: 'string' }, (request, body, done) => {
    if (body === '') done(null, undefined)
    else parse(request, body.toString(), done)
  })
}

/**
 * Takes connections from one more address or socket, with TLS if it gets certificates. Fastify listens on one; what comes
 * here is handed to the same server.
 */
export async function listenAlso (app: App, address: { host: string, port: number } | { path: string }, tls?: TlsOptions): Promise<SocketServer> {
  // a server that speaks TLS itself does so with every "connection"; complete ones it takes under this name
  const event = app.server instanceof HttpsServer ? 'secureConnection' : 'connection'
  const hand = (socket: Socket) => { app.server.emit(event, socket) }
  const server = tls === undefined ? createSocketServer({ noDelay: true }, hand) : createTlsServer({ ...tls, noDelay: true }, hand)
  noteArrivals(server)
  watchers.get(app)?.(server)
  // who fails in the handshake is nobody to talk to
  server.on('tlsClientError', (_error: Error, socket: TLSSocket) => { socket.destroy() })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen({ ...address, backlog }, () => { resolve() })
  })
  return server
}
