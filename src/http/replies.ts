import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

/** Nobody needs as many, of one connection. They wait for those before them, which may wait for an event. */
const maxWaiting = 1000
const lookEvery = 50

/** The replies that each connection still gets. They go out in the order of their requests. */
export class Replies {
  readonly #last = new WeakMap<Socket, ServerResponse>()
  /** Only of connections on which requests come before the reply to an earlier one has gone. */
  readonly #waiting = new WeakMap<Socket, ServerResponse[]>()
  readonly #before = new WeakMap<ServerResponse, ServerResponse>()

  /** Notes the reply to a request that has just come. Ends a connection that sends requests without end and waits for no reply. */
  add (socket: Socket, response: ServerResponse): void {
    const before = this.#last.get(socket)
    this.#last.set(socket, response)
    if (before === undefined || before.writableFinished) {
      this.#waiting.delete(socket)
      return
    }
    this.#before.set(response, before)
    let waiting = this.#waiting.get(socket) ?? [before]
    waiting.push(response)
    // those that have gone are not kept
    if (waiting.length % lookEvery === 0) waiting = waiting.filter(({ writableFinished }) => !writableFinished)
    this.#waiting.set(socket, waiting)
    if (waiting.length > maxWaiting) socket.destroy()
  }

  /**
   * Begins to serve a request when the reply before its own has gone: one after the other, as RFC 9112 (9.3.2) wants it of
   * those that change something. Of those that read, each reply would be made and kept while nobody takes the first: a
   * thousand long lists of one connection.
   *
   * Throws what `begin` throws when it is its turn at once; later, `failed` is told.
   */
  inTurn (response: ServerResponse, begin: () => void, failed: (error: Error) => void): void {
    const before = this.#before.get(response)
    if (before === undefined || before.writableFinished) {
      begin()
      return
    }
    before.once('close', () => {
      this.#before.delete(response)
      // it closes, too, when the connection is lost, and with it all that were to come
      if (!before.writableFinished) return
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
