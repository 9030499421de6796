import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Credentials, Presented } from '../auth/credentials.ts'
import { includes, type Caller, type Scope } from '../auth/scope.ts'
import { AppError } from '../errors.ts'
import { cameOverUnixSocket } from './arrival.ts'
import type { App } from './types.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** What a caller must be allowed to use the route; `open`: anybody may. */
    scope?: Scope | 'open'
    /** Answered also when the agent has more to do than it can. */
    vital?: boolean
  }
  interface FastifyRequest {
    /** Who sends the request, as soon as that is known. */
    caller: Caller | undefined
  }
}

/** Browsers accept the prefix from hosts they have reached securely (or from themselves), for no other path or domain. */
export const cookieName = '__Host-vdsm-tasks'
const cookiePattern = new RegExp(`(?:^|;)\\s*${cookieName}=([A-Za-z0-9_-]{43})\\s*(?:;|$)`)

/** The key of the session in the cookie of a request. */
export function sessionKeyOf ({ headers: { cookie } }: FastifyRequest): string | undefined {
  return cookie === undefined ? undefined : cookiePattern.exec(cookie)?.[1]
}

/** What a request shows of its sender. */
export function presentedBy (request: FastifyRequest): Presented {
  const { headers: { authorization }, socket } = request
  return { authorization, sessionKey: sessionKeyOf(request), socket, overUnixSocket: cameOverUnixSocket(socket) }
}

/** Whether a method changes nothing. */
export function isSafe (method: string): boolean {
  return method === 'GET' || method === 'HEAD' || method === 'OPTIONS'
}

/**
 * Asks of every request who sends it and whether he may. A route must say what it needs: one that does not fails the
 * start, so that nobody adds one and forgets it. What it returns asks, see `admit`.
 */
export function guardAccess (app: App, credentials: Credentials): (request: FastifyRequest, reply: FastifyReply, needed: Scope | 'open') => boolean {
  app.decorateRequest('caller', undefined)
  const undeclared: string[] = []
  const routes: Array<{ method: string | string[], url: string, config?: { scope?: Scope | 'open' } }> = []
  app.addHook('onRoute', route => {
    // looked at when all are there: plugins of others get theirs from a hook around them
    routes.push(route)
    // a body may take its time, and who sends it may lose the right to meanwhile
    if (![route.method].flat().every(isSafe)) {
      route.preValidation = [route.preValidation ?? []].flat().concat((request: FastifyRequest, reply: FastifyReply, done: () => void) => { if (admit(request, reply, credentials)) done() })
    }
  })
  app.addHook('onReady', done => {
    for (const { method, url, config } of routes) if (config?.scope === undefined) undeclared.push(`${String(method)} ${url}`)
    done(undeclared.length === 0 ? undefined : new Error(`these routes do not say which scope they need: ${undeclared.join(', ')}`))
  })
  return (request, reply, needed) => admit(request, reply, credentials, needed)
}

/** Whether the sender of a request may do what he asks for, as of now. Throws the refusal; returns false when it has answered the request itself. */
export function admit (request: FastifyRequest, reply: FastifyReply, credentials: Credentials, needed: Scope | 'open' = request.routeOptions.config.scope ?? 'read'): boolean {
  if (needed === 'open') return true
  let caller
  try {
    caller = callerOf(request, credentials)
  } catch (error) {
    refuse(error, request, reply, credentials)
    return false
  }
  request.caller = caller
  if (!includes(caller.scope, needed)) {
    reply.header('www-authenticate', `Bearer error="insufficient_scope", scope="${needed}"`)
    throw new AppError('scope-insufficient', `"${caller.who}" may ${caller.scope}; ${request.method} ${request.routeOptions.url} needs ${needed}.`)
  }
  return true
}

function callerOf (request: FastifyRequest, credentials: Credentials): Caller {
  const { headers, method } = request
  const caller = credentials.identify(presentedBy(request))
  // a browser sends the cookie by itself, whoever made it send the request: with SameSite only a page of this host can.
  // An Origin that is there has been compared with the Host before.
  if (caller.via === 'session' && !isSafe(method) && headers.origin === undefined) {
    throw new AppError('origin-not-allowed', 'A request with a cookie that changes something must have an Origin header: that of the agent\'s own page.')
  }
  return caller
}

function refuse (error: unknown, request: FastifyRequest, reply: FastifyReply, { takesTokens }: Credentials): void {
  if (!(error instanceof AppError)) throw error
  const unknown = error.code === 'unauthenticated' || error.code === 'credentials-invalid'
  if (unknown) {
    // a person who follows a link is asked to log in, a program is told what is missing
    if (takesTokens && request.headers['sec-fetch-mode'] === 'navigate' && request.method === 'GET') {
      reply.redirect(`/login?next=${encodeURIComponent(request.url)}`, 303)
      return
    }
    reply.header('www-authenticate', `Bearer realm="vdsm-tasks"${error.code === 'credentials-invalid' ? ', error="invalid_token"' : ''}`)
  }
  throw error
}
