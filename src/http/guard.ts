import type { FastifyRequest } from 'fastify'
import { AppError } from '../errors.ts'

/**
 * Refuses requests that a hostile web page makes through its visitor's browser. With DNS rebinding a page's own name
 * points to 127.0.0.1, so the Host header must be one of ours, on loopback too; and a request that comes with an
 * Origin must come from our own page. A unix socket is out of a browser's reach.
 *
 * @param allowedHosts names, lower case, besides loopback ones.
 */
export function makeGuard (allowedHosts: readonly string[]): (request: FastifyRequest) => void {
  const allowed = new Set(allowedHosts.map(name => name.toLowerCase()))
  return ({ headers, socket }) => {
    const { host, origin } = headers
    // not the remote address: a peer that has reset its connection has none any more, while its request is still served
    const overUnixSocket = socket.localAddress === undefined
    if (!overUnixSocket && !isAllowed(hostName(host), allowed)) {
      throw new AppError('host-not-allowed', `The Host header ${JSON.stringify(host ?? '')} is not one this agent goes by. Use a loopback address, or add the name to "http.allowedHosts" in the configuration.`)
    }
    if (origin !== undefined && originHost(origin) !== host?.toLowerCase()) {
      throw new AppError('origin-not-allowed', `Requests from pages of ${origin} are not answered.`)
    }
  }
}

function hostName (host: string | undefined): string {
  return /^(.*?)(?::\d+)?$/.exec(host?.toLowerCase() ?? '')?.[1] ?? ''
}

function isAllowed (name: string, allowed: ReadonlySet<string>): boolean {
  // addresses cannot be rebound; names can, so only those that always mean this host
  return name === 'localhost' || name === '[::1]' || /^127(\.\d{1,3}){3}$/.test(name) || allowed.has(name)
}

function originHost (origin: string): string | undefined {
  return /^https?:\/\/([^/]+)$/.exec(origin.toLowerCase())?.[1]
}
