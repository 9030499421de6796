import { createServer as createSocketServer, type Server as SocketServer } from 'node:net'
import Fastify, { LogController, type FastifyBaseLogger } from 'fastify'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import { makeGuard } from './guard.ts'
import { answerClientError, RouteTable, sendProblem } from './problems.ts'
import type { App } from './types.ts'
import { makeValidator } from './validation.ts'

export interface ServerOptions {
  log: FastifyBaseLogger
  instance: string
  allowedHosts: readonly string[]
  maxBodyBytes: number
}

/** How long requests under way may still take when the agent stops. */
const closeWithinMs = 500

/** A Fastify with our manners: strict validation, problems for every error, checked Host and Origin, a bounded stop. */
export function createServer ({ log, instance, allowedHosts, maxBodyBytes }: ServerOptions): App {
  const routes = new RouteTable()
  const guard = makeGuard(allowedHosts)
  let closing = false

  const app: App = Fastify({
    loggerInstance: log,
    logController: new LogController({ disableRequestLogging: true }),
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
    clientErrorHandler: (error, socket) => { answerClientError(error, socket, instance) }
  }).withTypeProvider<TypeBoxTypeProvider>()

  app.setValidatorCompiler(makeValidator(() => app.getSchemas()))
  // fast-json-stringify answers 500 when a value fits no branch of a union
  app.setSerializerCompiler(() => JSON.stringify)
  app.setErrorHandler(sendProblem)
  app.setNotFoundHandler((request, reply) => { routes.refuse(request, reply) })
  app.addHook('onRoute', ({ url, method }) => { routes.add(url, method) })
  app.addHook('onRequest', async (request, reply) => {
    reply.header('agent-instance', instance)
    guard(request)
  })
  app.addHook('onSend', async (_request, reply) => { if (closing) reply.header('connection', 'close') })
  app.addHook('preClose', async () => {
    closing = true
    const timer = setInterval(() => { app.server.closeIdleConnections() }, 20)
    setTimeout(() => { app.server.closeAllConnections() }, closeWithinMs).unref()
    app.server.once('close', () => { clearInterval(timer) })
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
