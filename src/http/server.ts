import type { ServerOptions as HttpOptions, ServerResponse } from 'node:http'
import { createServer as createSocketServer, type Server as SocketServer, type Socket } from 'node:net'
import Fastify, { LogController, type FastifyBaseLogger } from 'fastify'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import { makeGuard } from './guard.ts'
import { answerClientError, pathOf, RouteTable, sendProblem } from './problems.ts'
import type { App } from './types.ts'
import { makeValidator } from './validation.ts'

export interface ServerOptions {
  log: FastifyBaseLogger
  instance: string
  allowedHosts: readonly string[]
  maxBodyBytes: number
}

/** Node would answer a missing Host header by itself, without a problem; ours is the better refusal. */
const http: HttpOptions = { requireHostHeader: false }

/** How long requests under way may still take when the agent stops. */
const closeWithinMs = 500

/** A Fastify with our manners: strict validation, problems for every error, checked Host and Origin, a bounded stop. */
export function createServer ({ log, instance, allowedHosts, maxBodyBytes }: ServerOptions): App {
  const routes = new RouteTable()
  const guard = makeGuard(allowedHosts)
  // of each connection the reply to its last request: they go out in order, so when this one has gone none is due
  const lastReplies = new WeakMap<Socket, ServerResponse>()
  let closing = false

  const app: App = Fastify({
    loggerInstance: log,
    logController: new LogController({ disableRequestLogging: true }),
    http,
    bodyLimit: maxBodyBytes,
    requestTimeout: 30_000,
    connectionTimeout: 0,
    // an id may have 255 characters, each of them percent-encoded
    routerOptions: { maxParamLength: 1000, caseSensitive: true },
    // the deadline below ends what is idle; "true" would cut replies that are under way
    forceCloseConnections: 'idle',
    return503OnClosing: false,
    frameworkErrors: (error, request, reply) => {
      reply.header('agent-instance', instance)
      sendProblem(error, request, reply)
    },
    clientErrorHandler: (error, socket) => {
      // behind a reply that is still due, or in the middle of it, another would be taken for it
      if (lastReplies.get(socket)?.writableFinished === false) socket.destroy()
      else answerClientError(error, socket, instance)
    }
  }).withTypeProvider<TypeBoxTypeProvider>()

  app.setValidatorCompiler(makeValidator(() => app.getSchemas()))
  // fast-json-stringify answers 500 when a value fits no branch of a union
  app.setSerializerCompiler(() => JSON.stringify)
  app.setErrorHandler(sendProblem)
  app.setNotFoundHandler((request, reply) => { routes.refuse(request, reply) })
  app.server.on('request', ({ socket }, response) => { lastReplies.set(socket, response) })
  // an expectation may be ignored (RFC 9110, 10.1.1); Node's own answer would be no problem
  app.server.on('checkExpectation', (request, response) => { app.server.emit('request', request, response) })
  app.addHook('onRoute', ({ url, method }) => { routes.add(url, method) })
  // Hooks of every request, with `done`: a promise for each would be a tenth of what a GET costs (scripts/bench/http.mjs).
  app.addHook('onRequest', (request, reply, done) => {
    reply.header('agent-instance', instance)
    guard(request)
    // before the body is read: nobody is told what is wrong with a body that nobody wants
    if (request.is404) routes.refuse(request, reply)
    done()
  })
  if (log.level === 'debug' || log.level === 'trace') {
    app.addHook('onResponse', (request, reply, done) => {
      request.log.debug({ method: request.method, path: pathOf(request), status: reply.statusCode, ms: Math.round(reply.elapsedTime) }, 'request')
      done()
    })
  }
  app.addHook('onSend', (_request, reply, _payload, done) => {
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
  return app
}

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

/** Takes connections from one more address or socket. Fastify listens on one; what comes here is handed to the same server. */
export async function listenAlso (app: App, address: { host: string, port: number } | { path: string }): Promise<SocketServer> {
  const server = createSocketServer({ noDelay: true }, socket => { app.server.emit('connection', socket) })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(address, () => { resolve() })
  })
  return server
}
