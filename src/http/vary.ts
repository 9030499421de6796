import type { FastifyReply } from 'fastify'

/** Says that the answer depends on a header of the request, besides those on which it does already. */
export function varyBy (reply: FastifyReply, name: string): FastifyReply {
  const others = reply.getHeader('vary')
  return reply.header('vary', others === undefined ? name : `${String(others)}, ${name}`)
}
