import { STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import { AppError, catalogue, problemOf, type ErrorCode } from '../errors.ts'
import type { Task } from '../api/task.ts'
import { etagOf } from '../tasks/etag.ts'
import { validationError } from './validation.ts'

const byFastifyCode: Readonly<Record<string, ErrorCode>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: 'body-too-large',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'unsupported-media-type',
  FST_ERR_CTP_INVALID_JSON_BODY: 'bad-request',
  FST_ERR_CTP_EMPTY_JSON_BODY: 'bad-request',
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: 'bad-request',
  FST_ERR_BAD_URL: 'bad-request',
  FST_ERR_MAX_PARAM_LENGTH: 'bad-request',
  FST_ERR_ASYNC_CONSTRAINT: 'bad-request'
}

/** Whatever was thrown while a request was served, as one of our errors. */
export function appErrorOf (error: FastifyError | Error): AppError {
  if (error instanceof AppError) return error
  if ('validation' in error && error.validation !== undefined) return validationError(error.validation, error.validationContext)
  const code = 'code' in error ? byFastifyCode[error.code] : undefined
  if (code !== undefined) return new AppError(code, error.message, { cause: error })
  // the parsers throw plain errors with a status
  const status = 'statusCode' in error ? error.statusCode : undefined
  if (status !== undefined && status >= 400 && status < 500) return new AppError(status === 413 ? 'body-too-large' : status === 415 ? 'unsupported-media-type' : 'bad-request', error.message, { cause: error })
  return new AppError('internal', 'This should not have happened. The log of the agent tells more.', { cause: error })
}

/** Answers a request with a problem. The one place where errors become responses. */
export function sendProblem (error: FastifyError | Error, request: FastifyRequest, reply: FastifyReply): void {
  const known = appErrorOf(error)
  const { status } = catalogue[known.code]
  if (status >= 500) request.log.error({ err: known.code === 'internal' ? error : known, code: known.code }, 'request failed')
  else request.log.info({ code: known.code, detail: known.message }, 'request refused')
  const { retryAfter, ...problem } = problemOf(known) as ReturnType<typeof problemOf> & { retryAfter?: number, task?: Task }
  if (retryAfter !== undefined) reply.header('retry-after', String(retryAfter))
  else if (status === 503 || known.code === 'resource-busy') reply.header('retry-after', '5')
  if (problem.task !== undefined) reply.header('etag', etagOf(problem.task))
  reply.code(status).type('application/problem+json').send(problem)
}

/** Answers what is not even HTTP enough for Fastify to see it. */
export function answerClientError (error: Error & { code?: string }, socket: Socket, instance: string): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy()
    return
  }
  const known = error.code === 'HPE_HEADER_OVERFLOW'
    ? new AppError('headers-too-large', 'The request headers are longer than the agent accepts.')
    : error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
      ? new AppError('request-timeout', 'The request did not arrive in time.')
      : new AppError('bad-request', 'This is not an HTTP request that the agent understands.')
  const problem = problemOf(known)
  const body = JSON.stringify(problem)
  socket.end([
    `HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status]}`,
    'content-type: application/problem+json',
    `content-length: ${Buffer.byteLength(body)}`,
    `agent-instance: ${instance}`,
    'connection: close', '', body
  ].join('\r\n'))
}

/** The methods that each route takes, to tell "no such address" from "not this method". */
export class RouteTable {
  readonly #routes = new Map<string, { pattern: RegExp, methods: Set<string> }>()

  add (url: string, method: string | readonly string[]): void {
    const route = this.#routes.get(url) ?? { pattern: patternOf(url), methods: new Set<string>() }
    for (const one of typeof method === 'string' ? [method] : method) route.methods.add(one)
    this.#routes.set(url, route)
  }

  /** Throws `method-not-allowed` or `not-found`. */
  refuse (request: FastifyRequest, reply: FastifyReply): never {
    const path = request.url.split('?', 1)[0] ?? ''
    const methods = [...this.#routes.values()].filter(({ pattern }) => pattern.test(path)).flatMap(({ methods }) => [...methods])
    if (methods.length === 0) throw new AppError('not-found', `There is nothing at ${path}. GET /openapi.json lists every address.`)
    const allowed = [...new Set(methods)].sort().join(', ')
    reply.header('allow', allowed)
    throw new AppError('method-not-allowed', `${path} takes ${allowed}, not ${request.method}.`)
  }
}

function patternOf (url: string): RegExp {
  const source = url.split('/').map(part => part.startsWith(':') ? '[^/]+' : part === '*' ? '.*' : part.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('/')
  return new RegExp(`^${source}$`)
}
