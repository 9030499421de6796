import type { FastifyReply } from 'fastify'

declare module 'fastify' {
  interface FastifyInstance {
    commonHeaders: CommonHeaders
  }
}

/** What every response of a server says in its head, unless its route says otherwise. */
export interface CommonHeaders {
  readonly values: Readonly<Record<string, string>>
  /** The same, name and value in turn. */
  readonly lines: readonly string[]
  /** Whether there are replies to which a hook adds more. */
  readonly more: boolean
}

/**
 * Whatever a browser takes a response for, nothing in it runs, nothing frames it, and no page of another site gets it into
 * its process.
 */
export const securityHeaders = {
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'cross-origin-resource-policy': 'same-origin',
  // not "no-referrer": forms would then be sent with "Origin: null"
  'referrer-policy': 'same-origin'
} as const

/** What a page has instead: everything it needs comes from here, and nothing else may run in it. */
export const pageHeaders = {
  'content-security-policy': "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
  // whoever opens it in a window gets no handle to that
  'cross-origin-opener-policy': 'same-origin',
  // an upgraded agent must not be shown by an old page
  'cache-control': 'no-cache'
} as const

export const mediaType = 'application/json; charset=utf-8'

/** Adds to a reply what every one has. With the last hook: whoever answers past Fastify need not pay for it. */
export function addCommon (reply: FastifyReply): void {
  const { values } = reply.server.commonHeaders
  for (const name in values) if (!reply.hasHeader(name)) reply.header(name, values[name])
}

/** The headers of a reply that somebody else sends. */
export function headersOf (reply: FastifyReply): Record<string, number | string | string[] | undefined> {
  return { ...reply.server.commonHeaders.values, ...reply.getHeaders() }
}

/** Says that the answer depends on a header of the request, besides those on which it does already. */
export function varyBy (reply: FastifyReply, name: string): FastifyReply {
  const others = reply.getHeader('vary')
  return reply.header('vary', others === undefined ? name : `${String(others)}, ${name}`)
}

/** Sets headers: name and value in turn, as Node takes them. */
export function setHeaders (reply: FastifyReply, headers: readonly string[]): FastifyReply {
  for (let at = 0; at < headers.length; at += 2) {
    const [name = '', value = ''] = headers.slice(at, at + 2)
    if (name === 'vary') varyBy(reply, value)
    else reply.header(name, value)
  }
  return reply
}

/** An answer that can be given again and again. */
export interface Ready {
  readonly headers: readonly string[]
  readonly json: string
}

/** Makes an answer ready; of headers, name and value in turn. */
export function makeReady ({ lines }: CommonHeaders, headers: readonly string[], json: string): Ready {
  return { headers: [...lines, ...headers, 'content-type', mediaType, 'content-length', String(Buffer.byteLength(json))], json }
}

/**
 * Gives an answer that is ready. Past Fastify's reply, which takes each header by itself and asks hooks and serializers
 * what they make of it: that was a tenth of a GET (scripts/bench/http.mjs).
 */
export function sendReady (reply: FastifyReply, { headers, json }: Ready): void {
  if (reply.server.commonHeaders.more) {
    setHeaders(reply, headers).send(json)
    return
  }
  reply.hijack()
  // writeHead takes them so, but its type wants them to be changeable
  reply.raw.writeHead(reply.statusCode, headers as string[])
  reply.raw.end(json)
}
