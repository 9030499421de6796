import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import { AppError } from '../errors.ts'
import { headersOf, pageHeaders } from './headers.ts'
import { pathOf, sendProblem } from './problems.ts'
import type { App } from './types.ts'

const prefix = '/docs'

/**
 * The reference at /docs. What shows it is an application of its own, made when somebody first looks: it would be a
 * tenth of what every start of the agent takes.
 */
export function referenceRoutes (app: App): void {
  let reference: Promise<FastifyInstance> | undefined
  app.addHook('onClose', async () => { await (await reference)?.close() })
  const show = async (request: FastifyRequest, reply: FastifyReply): Promise<void> => {
    reference ??= makeReference(app.swagger())
    const { routing } = await reference
    reply.hijack()
    // the other application writes its own head, and has the same rules as our page: all of it are files without inline scripts
    for (const [name, value] of Object.entries(pageHeaders)) reply.header(name, value)
    for (const [name, value] of Object.entries(headersOf(reply))) if (value !== undefined) reply.raw.setHeader(name, value)
    routing(request.raw, reply.raw)
  }
  for (const path of [prefix, `${prefix}/*`]) app.get(path, { config: { scope: 'read' }, schema: { hide: true } }, show)
}

async function makeReference (document: object): Promise<FastifyInstance> {
  const [{ default: swagger }, { default: swaggerUi }] = await Promise.all([import('@fastify/swagger'), import('@fastify/swagger-ui')])
  const reference = Fastify({ logger: false })
  // its files would say "public"
  reference.addHook('onSend', async (_, reply) => { if (reply.hasHeader('cache-control')) reply.header('cache-control', pageHeaders['cache-control']) })
  reference.setErrorHandler(sendProblem)
  reference.setNotFoundHandler((request, reply) => {
    sendProblem(new AppError('not-found', `There is nothing at ${pathOf(request)}. GET ${prefix} shows the reference.`), request, reply)
  })
  await reference.register(swagger, { mode: 'static', specification: { document: document as never } })
  await reference.register(swaggerUi, { routePrefix: prefix, staticCSP: false, uiConfig: { deepLinking: true, layout: 'BaseLayout' } })
  await reference.ready()
  return reference
}
