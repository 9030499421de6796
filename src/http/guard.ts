import { isIPv4 } from 'node:net'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { AppError } from '../errors.ts'
import { cameOverUnixSocket } from './arrival.ts'
import { varyBy } from './headers.ts'

export interface GuardOptions {
  /** Names that a Host header may have besides loopback ones. */
  allowedHosts: readonly string[]
  /** Origins whose pages may use the agent, with a token. */
  allowedOrigins: readonly string[]
  /** Whether the agent's own certificate is for a name. */
  isOurs: (name: string) => boolean
}

const corsMethods = 'GET, PUT, PATCH, DELETE'
const corsRequestHeaders = 'authorization, content-type, prefer, if-match, if-none-match, agent-instance, last-event-id'
const corsResponseHeaders = 'etag, location, retry-after, agent-instance, idempotent-replayed, preference-applied'

/**
 * Refuses requests that a hostile web page makes through its visitor's browser. With DNS rebinding a page's own name
 * points to 127.0.0.1, so the Host header must be one of ours, on loopback too; and a request that comes with an
 * Origin must come from our own page, or from one that the configuration names. A unix socket is out of a browser's reach.
 *
 * Not @fastify/cors: its hook comes after those that refuse, so that a page could not read why it is refused, and its
 * route for preflights is one for every address, also for those where nothing is.
 *
 * Returns true when the request was a preflight and has been answered.
 */
export function makeGuard ({ allowedHosts, allowedOrigins, isOurs }: GuardOptions): (request: FastifyRequest, reply: FastifyReply) => boolean {
  const hosts = new Set(allowedHosts.map(name => name.toLowerCase()))
  const origins = new Set(allowedOrigins.map(origin => origin.toLowerCase()))
  let last = lookAt(undefined)
  return (request, reply) => {
    const { headers, method, socket } = request
    const { origin } = headers
    const host = hostOf(request)
    // a client sends the same one with every request
    if (host !== last.host) last = lookAt(host)
    const { name } = last
    if (!last.loopback && !cameOverUnixSocket(socket) && !hosts.has(name) && name !== addressOf(socket.localAddress) && !isOurs(name)) {
      throw new AppError('host-not-allowed', `The Host header ${JSON.stringify(host ?? '')} is not one this agent goes by. Use a loopback address, or add the name to "http.allowedHosts" in the configuration.`)
    }
    if (origins.size > 0) varyBy(reply, 'Origin')
    if (origin === undefined) {
      if (isFromElsewhere(headers['sec-fetch-site']) && !isNavigation(request)) throw new AppError('origin-not-allowed', 'Requests from pages of others are not answered.')
      return false
    }
    if (originHost(origin) === host?.toLowerCase()) return false
    if (!origins.has(origin.toLowerCase())) throw new AppError('origin-not-allowed', `Requests from pages of ${origin} are not answered.`)
    // without Access-Control-Allow-Credentials: such a page brings a token, never the cookie of our own
    reply.header('access-control-allow-origin', origin).header('access-control-expose-headers', corsResponseHeaders)
    if (headers.cookie !== undefined) throw new AppError('origin-not-allowed', `Requests from pages of ${origin} are answered with a token only, without a cookie.`)
    if (method !== 'OPTIONS' || headers['access-control-request-method'] === undefined) return false
    reply.header('access-control-allow-methods', corsMethods).header('access-control-allow-headers', corsRequestHeaders).header('access-control-max-age', '600')
    reply.code(204).send()
    return true
  }
}

/** Whom a request is for: an address with a host in it goes before the header, and two headers are none (RFC 9112, 3.2). */
function hostOf ({ url, headers, raw: { rawHeaders } }: FastifyRequest): string | undefined {
  let hosts = 0
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]
    if (name?.length === 4 && name.toLowerCase() === 'host') hosts++
  }
  if (hosts > 1) throw new AppError('bad-request', 'A request has one Host header.')
  if (url.startsWith('/') || url === '*') return headers.host
  return /^https?:\/\/([^/?#]*)/i.exec(url)?.[1] ?? ''
}

function lookAt (host: string | undefined): { host: string | undefined, name: string, loopback: boolean } {
  const name = hostName(host)
  return { host, name, loopback: isLoopback(name) }
}

function hostName (host: string | undefined): string {
  return /^(.*?)(?::\d+)?$/.exec(host?.toLowerCase() ?? '')?.[1] ?? ''
}

/** Addresses cannot be rebound; names can, so only those that always mean this host. */
function isLoopback (name: string): boolean {
  return name === 'localhost' || name === '[::1]' || (isIPv4(name) && name.startsWith('127.'))
}

/** The address that a connection was made to, as a Host header has it. */
function addressOf (address: string | undefined): string | undefined {
  const plain = address?.replace(/^::ffff:/, '')
  return plain?.includes(':') === true ? `[${plain}]` : plain
}

/** Browsers say so of images, scripts and forms, too, which come without an Origin. */
function isFromElsewhere (site: string | string[] | undefined): boolean {
  return site === 'cross-site' || site === 'same-site'
}

/** A link that somebody follows. What it shows, the page that has the link cannot see. */
function isNavigation ({ method, headers }: FastifyRequest): boolean {
  return method === 'GET' && headers['sec-fetch-mode'] === 'navigate' && headers['sec-fetch-dest'] === 'document'
}

function originHost (origin: string): string | undefined {
  return /^https?:\/\/([^/]+)$/.exec(origin.toLowerCase())?.[1]
}
