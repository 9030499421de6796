import type { Server, Socket } from 'node:net'
import { networkOf } from './connections.ts'

/** Connections with a stream, which is looked after elsewhere. */
const streams = new WeakSet<Socket>()

export interface Patience {
  /** Who takes nothing of a reply for so long is cut off. */
  afterMs: number
  lookEveryMs: number
  /** Bytes of replies that one address may leave unread before no more are made for it, and patience ends. */
  maxUnreadBytes: number
}

/** With whose clients too much waits to be read. */
const impatientAfterMs = 2000

/**
 * Ends connections whose peers no longer take what is sent to them. Requests have timeouts of their own, and so has an idle
 * connection; left is a reply that nobody reads. Returns whether the address of a connection leaves so many of them unread that
 * it gets no more.
 *
 * Not the timeout of Node's server: its timers are set and moved several times for each request, which is a tenth of a
 * GET (scripts/bench/http.mjs), and almost every reply is gone at once.
 */
export function endStuck (server: Server, { afterMs, lookEveryMs, maxUnreadBytes }: Patience): (socket: Socket) => boolean {
  const sockets = new Set<Socket>()
  const greedy = new Set<string>()
  // other listeners hand over their connections under the same names; under TLS the plain ones are not those that are written to
  for (const event of ['connection', 'secureConnection']) {
    server.prependListener(event, (socket: Socket) => {
      sockets.add(socket)
      socket.once('close', () => { sockets.delete(socket) })
    })
  }
  const timer = setInterval(() => {
    const unread = new Map<string, number>()
    const pending = [...sockets].filter(socket => socket.writableLength > 0 && !streams.has(socket))
    for (const socket of pending) {
      const network = networkOf(socket.remoteAddress)
      unread.set(network, (unread.get(network) ?? 0) + socket.writableLength)
    }
    greedy.clear()
    for (const [network, bytes] of unread) if (bytes > maxUnreadBytes) greedy.add(network)
    for (const socket of pending) {
      const ms = greedy.has(networkOf(socket.remoteAddress)) ? Math.min(afterMs, impatientAfterMs) : afterMs
      // Node moves this timer whenever something is taken, and its HTTP server removes it when the reply is complete
      if (!socket.timeout || socket.timeout > ms) socket.setTimeout(ms)
    }
  }, lookEveryMs).unref()
  server.once('close', () => { clearInterval(timer) })
  return socket => greedy.size > 0 && greedy.has(networkOf(socket.remoteAddress))
}

/** From now on the connection is a stream's. It may be idle for as long as that has nothing to say. */
export function leaveToStream (socket: Socket): void {
  streams.add(socket)
  socket.setTimeout(0)
}
