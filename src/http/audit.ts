import type { FastifyBaseLogger, FastifyReply, FastifyRequest } from 'fastify'
import type { ErrorCode } from '../errors.ts'
import { isSafe } from './access.ts'
import { cameOverUnixSocket } from './arrival.ts'
import { pathOf } from './problems.ts'
import type { App } from './types.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** The code of the problem that the request was answered with. */
    refusal: ErrorCode | undefined
  }
}

/** Refusals that say something about the caller. */
const aboutCallers = new Set([401, 403, 429])

/** So many refusals of strangers have a line each; of a flood, only the number is told: it would push everything else out of the log. */
const strangers = { most: 1000, inMs: 10_000 }

/**
 * Writes down who changed what, and who was refused what: one line each, with `audit`, whatever the level of the log is.
 * Nothing that came with a request but its path and a body that was found to be a command gets into it: no header, no query.
 *
 * What it returns is to be called with each reply that goes out. Not later: whoever hangs up before the reply has reached him
 * has changed something all the same.
 */
export function audit (app: App, log: FastifyBaseLogger): (request: FastifyRequest, reply: FastifyReply) => void {
  app.decorateRequest('refusal', undefined)
  if (log.level === 'silent') return () => {}
  const lines = log.child({}, { level: 'info' })
  let refused = 0
  const isTooMany = () => {
    if (refused === 0) {
      setTimeout(() => {
        const more = refused - strangers.most
        refused = 0
        if (more > 0) lines.info({ audit: 'refusal', who: 'unknown', more }, `somebody unknown: ${more} more refusals within ${strangers.inMs / 1000} s`)
      }, strangers.inMs).unref()
    }
    return ++refused > strangers.most
  }
  return (request, { statusCode }) => {
    const { method } = request
    const changes = !isSafe(method) && !request.is404
    if (!changes && !aboutCallers.has(statusCode)) return
    const { caller, refusal, ip, socket } = request
    if (caller === undefined && aboutCallers.has(statusCode) && isTooMany()) return
    lines.info({
      audit: changes && !aboutCallers.has(statusCode) ? 'change' : 'refusal',
      who: caller?.who ?? 'unknown',
      ...(caller !== undefined && { via: caller.via }),
      from: cameOverUnixSocket(socket) ? 'unix socket' : ip ?? 'unknown',
      method,
      path: pathOf(request),
      status: statusCode,
      ...(refusal !== undefined && { code: refusal }),
      ...(isCommand(request) && { command: request.body })
    }, `${caller?.who ?? 'somebody unknown'}: ${method} ${pathOf(request)}: ${refusal ?? statusCode}`)
  }
}

/** Whether the body has passed its schema: then it is small, and holds no secrets. */
function isCommand (request: FastifyRequest): boolean {
  // the form to log in, which holds a token, is the only body of an open route
  return request.body !== undefined && request.refusal !== 'bad-request' && request.routeOptions.config.scope !== 'open'
}
