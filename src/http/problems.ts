import { STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import { AppError, catalogue, problemOf, type ErrorCode } from '../errors.ts'
import type { Task } from '../api/task.ts'
import { etagOf } from '../tasks/etag.ts'
import { validationError } from './validation.ts'

/** Fastify's own refusals, in our words: some of its texts repeat the whole address, with its query. */
const byFastifyCode: Readonly<Record<string, readonly [ErrorCode, string]>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: ['body-too-large', 'The body is larger than the agent accepts. GET /agent tells the limit.'],
  FST_ERR_CTP_INVALID_MEDIA_TYPE: ['unsupported-media-type', 'The body must be JSON. With curl: -H \'content-type: application/json\''],
  FST_ERR_CTP_INVALID_JSON_BODY: ['bad-request', 'The body is not valid JSON.'],
  FST_ERR_CTP_EMPTY_JSON_BODY: ['bad-request', 'The body is empty.'],
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: ['bad-request', 'The body is not as long as its Content-Length says.'],
  FST_ERR_BAD_URL: ['bad-request', 'The address is too long, or wrongly percent-encoded.'],
  FST_ERR_MAX_PARAM_LENGTH: ['bad-request', 'The address is too long.'],
  FST_ERR_ASYNC_CONSTRAINT: ['bad-request', 'The request headers are not as documented.']
}

/** Whatever was thrown while a request was served, as one of our errors. */
export function appErrorOf (error: FastifyError | Error): AppError {
  if (error instanceof AppError) return error
  if ('validation' in error && error.validation !== undefined) return validationError(error.validation, error.validationContext)
  const known = 'code' in error ? byFastifyCode[error.code] : undefined
  if (known !== undefined) return new AppError(...known, { cause: error })
  // the parsers throw plain errors with a status
  const status = 'statusCode' in error ? error.statusCode : undefined
  if (status !== undefined && status >= 400 && status < 500) return new AppError(status === 413 ? 'body-too-large' : status === 415 ? 'unsupported-media-type' : 'bad-request', error.message, { cause: error })
  return new AppError('internal', 'This should not have happened. The log of the agent tells more.', { cause: error })
}

/** Answers a request with a problem. The one place where errors become responses. */
export function sendProblem (error: FastifyError | Error, request: FastifyRequest, reply: FastifyReply): void {
  const { log } = request.server
  const known = appErrorOf(error)
  const { status } = catalogue[known.code]
  request.refusal = known.code
  const at = { reqId: request.id, method: request.method, path: pathOf(request), code: known.code }
  // 503 says what is not there: a host without Gluster is asked for it every few seconds by whoever looks at the page
  if (status >= 500 && status !== 503) log.error({ ...at, err: known.code === 'internal' ? error : known }, 'request failed')
  // of strangers there may be a flood: the audit tells of them, as far as it is worth telling
  else log[request.caller === undefined ? 'debug' : 'info']({ ...at, detail: known.message }, 'request refused')
  const { retryAfter, ...problem } = problemOf(known) as ReturnType<typeof problemOf> & { retryAfter?: number, task?: Task }
  if (retryAfter !== undefined) reply.header('retry-after', String(retryAfter))
  else if (status === 503 || known.code === 'resource-busy') reply.header('retry-after', '5')
  if (problem.task !== undefined) reply.header('etag', etagOf(problem.task))
  reply.code(status).type('application/problem+json').send(problem)
}

/** Answers what is not even HTTP enough for Fastify to see it. */
export function answerClientError (error: Error & { code?: string }, socket: Socket, instance: string): void {
  // a handshake that failed leaves nobody who could read an answer
  if (error.code === 'ECONNRESET' || error.code?.startsWith('ERR_SSL_') === true || error.code?.startsWith('ERR_TLS_') === true || !socket.writable) {
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
  // not at once: what it still sends would be answered with a reset, which could overtake the reply
  socket.setTimeout(1000, () => { socket.destroy() })
}

/** The address without its query, which is nobody else's business. */
export function pathOf ({ url }: FastifyRequest): string {
  return url.split('?', 1)[0] ?? ''
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
    const path = pathOf(request)
    const methods = [...this.#routes.values()].filter(({ pattern }) => pattern.test(path)).flatMap(({ methods }) => [...methods])
    if (methods.length === 0) throw new AppError('not-found', `There is nothing at ${path}. GET /openapi.json lists every address.`)
    const allowed = [...new Set(methods)].sort().join(', ')
    reply.header('allow', allowed)
    throw new AppError('method-not-allowed', `${path} takes ${allowed}, not ${request.method}.`)
  }
}

function patternOf (url: string): RegExp {
  const source = url.split('/').map(part => part.startsWith(':') ? '[^/]*' : part === '*' ? '.*' : part.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('/')
  return new RegExp(`^${source}$`)
}
