import rateLimit from '@fastify/rate-limit'
import { AppError } from '../errors.ts'
import type { App } from './types.ts'

const none = { 'x-ratelimit-limit': false, 'x-ratelimit-remaining': false, 'x-ratelimit-reset': false }

/**
 * Bounds what each token or certificate may ask for in a second. Who reaches the agent without one, over loopback or a
 * unix socket, is not bounded. A stream counts when it begins, and never again. To be registered before the routes.
 */
export function limitRate (app: App, maxRequestsPerSecond: number): void {
  app.register(rateLimit, {
    max: maxRequestsPerSecond,
    timeWindow: 1000,
    // after the hooks of the server, which find out who asks
    hook: 'onRequest',
    keyGenerator: ({ caller, ip }) => caller === undefined ? `address ${ip}` : `${caller.via === 'session' ? 'token' : caller.via} ${caller.who}`,
    allowList: ({ caller, routeOptions }) => caller?.via === 'loopback' || caller?.via === 'unix socket' || (routeOptions.config.scope === 'open' && routeOptions.config.rateLimit === undefined),
    addHeaders: { ...none, 'retry-after': false },
    addHeadersOnExceeding: none,
    errorResponseBuilder: ({ caller }, { ttl, max }) => new AppError('too-many-requests', `${caller === undefined ? 'This address' : `"${caller.who}"`} may send ${max} requests in this time. Wait for a change with "Prefer: wait=N", or follow /events, instead of asking often.`, { members: { retryAfter: Math.max(1, Math.ceil(ttl / 1000)), maximum: max } })
  })
}
