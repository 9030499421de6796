import type { Server, Socket } from 'node:net'

/** Connections with a stream, which is looked after elsewhere. */
const streams = new WeakSet<Socket>()

/**
 * Ends connections whose peers no longer take what is sent to them. Requests have timeouts of their own, and so has an idle
 * connection; left is a reply that nobody reads.
 *
 * Not the timeout of Node's server: its timers are set and moved several times for each request, which is a tenth of a
 * GET (scripts/bench/http.mjs), and almost every reply is gone at once.
 */
export function endStuck (server: Server, { afterMs, lookEveryMs }: { afterMs: number, lookEveryMs: number }): void {
  const sockets = new Set<Socket>()
  // other listeners hand over their connections under the same names; under TLS the plain ones are not those that are written to
  for (const event of ['connection', 'secureConnection']) {
    server.prependListener(event, (socket: Socket) => {
      sockets.add(socket)
      socket.once('close', () => { sockets.delete(socket) })
    })
  }
  const timer = setInterval(() => {
    for (const socket of sockets) {
      // Node moves this timer whenever something is taken, and its HTTP server removes it when the reply is complete
      if (socket.writableLength > 0 && !socket.timeout && !streams.has(socket)) socket.setTimeout(afterMs)
    }
  }, lookEveryMs).unref()
  server.once('close', () => { clearInterval(timer) })
}

/** From now on the connection is a stream's. It may be idle for as long as that has nothing to say. */
export function leaveToStream (socket: Socket): void {
  streams.add(socket)
  socket.setTimeout(0)
}
