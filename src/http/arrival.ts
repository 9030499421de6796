import type { Server, Socket } from 'node:net'

/** Connections that came over a unix socket: whoever may open it has been let in by the file's mode. */
const local = new WeakSet<Socket>()
const seen = new WeakSet<Socket>()

/**
 * Notes how the connections of a listener come, as they come. Later their addresses are no proof: a connection that the
 * peer has reset has none any more, and would look as if it had come over a unix socket.
 */
export function noteArrivals (server: Server): void {
  server.prependListener('connection', (socket: Socket) => {
    // one listener hands connections to another: the first one counts
    if (seen.has(socket)) return
    seen.add(socket)
    if (typeof server.address() === 'string') local.add(socket)
  })
}

/** Whether a connection came over a unix socket. */
export function cameOverUnixSocket (socket: Socket): boolean {
  return local.has(socket)
}
