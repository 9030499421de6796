import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

/** Nobody needs as many, of one connection. They wait for those before them, which may wait for an event. */
const maxWaiting = 1000

/** The replies that each connection still gets. They go out in the order of their requests. */
export class Replies {
  readonly #last = new WeakMap<Socket, ServerResponse>()
  /** Only of connections on which requests came before the reply to an earlier one had gone. */
  readonly #waiting = new WeakMap<Socket, number>()

  /**
   * Begins to serve a request when the reply before its own has gone: one after the other, as RFC 9112 (9.3.2) wants it of
   * those that change something. Of those that read, each reply would be made and kept while nobody takes the first: a
   * thousand long lists of one connection. Ends a connection that sends requests without end and waits for no reply.
   *
   * Throws what `begin` throws when it is its turn at once; later, `failed` is told.
   */
  inTurn (socket: Socket, response: ServerResponse, begin: () => void, failed: (error: Error) => void): void {
    this.#last.set(socket, response)
    // Node gives a connection to one reply after the other
    if (response.socket !== null) {
      begin()
      return
    }
    const waiting = (this.#waiting.get(socket) ?? 0) + 1
    this.#waiting.set(socket, waiting)
    if (waiting > maxWaiting) {
      socket.destroy()
      return
    }
    response.once('socket', () => {
      this.#waiting.set(socket, (this.#waiting.get(socket) ?? 1) - 1)
      try {
        begin()
      } catch (error) {
        failed(error as Error)
      }
    })
  }

  /**
   * Whether what could not be read of a connection may be answered: when no reply is due, or when it is part of the very
   * request whose reply is next, and nothing of that has gone. In any other place it would be taken for another's.
   */
  mayAnswer (socket: Socket): boolean {
    const last = this.#last.get(socket)
    if (last === undefined) return true
    if (last.req.complete) return last.writableFinished
    return !last.headersSent && last.socket === socket
  }
}
