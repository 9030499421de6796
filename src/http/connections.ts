import type { Server, Socket } from 'node:net'
import { TLSSocket } from 'node:tls'

export interface ConnectionLimits {
  maxConnections: number
  maxConnectionsPerAddress: number
}

/** A flood must not flood the log as well. */
const warnEveryMs = 10_000

/**
 * Counts the connections of all listeners, also those that have not finished their TLS handshake, and ends what is too
 * many. One address gets fewer than there are: it can shut out itself, but not others.
 */
export class Connections {
  readonly #limits: ConnectionLimits
  readonly #warn: (details: object, message: string) => void
  readonly #perAddress = new Map<string, number>()
  readonly #counted = new WeakSet<Socket>()
  #size = 0
  #refused = 0
  #warnedAt = -Infinity

  constructor (limits: ConnectionLimits, warn: (details: object, message: string) => void) {
    this.#limits = limits
    this.#warn = warn
  }

  get size (): number { return this.#size }

  /** Watches a listener. To be called before anybody else does something with its connections. */
  watch (server: Server): void {
    server.prependListener('connection', (socket: Socket) => { this.#take(socket) })
  }

  #take (socket: Socket): void {
    // one listener hands them to another
    if (socket instanceof TLSSocket || this.#counted.has(socket)) return
    this.#counted.add(socket)
    // a unix socket has no addresses; whoever may open it is trusted with more than this
    const from = networkOf(socket.remoteAddress)
    const others = this.#perAddress.get(from) ?? 0
    if (this.#size >= this.#limits.maxConnections || (from !== '' && others >= this.#limits.maxConnectionsPerAddress)) {
      this.#refuse(socket, from)
      return
    }
    this.#size++
    this.#perAddress.set(from, others + 1)
    socket.once('close', () => {
      this.#size--
      const left = (this.#perAddress.get(from) ?? 1) - 1
      if (left > 0) this.#perAddress.set(from, left)
      else this.#perAddress.delete(from)
    })
  }

  #refuse (socket: Socket, from: string): void {
    this.#refused++
    // at once, and without a word: every word would cost a write for each of a flood
    socket.destroy()
    const now = performance.now()
    if (now - this.#warnedAt < warnEveryMs) return
    this.#warnedAt = now
    this.#warn({ from, connections: this.#size, refused: this.#refused }, 'too many connections: new ones are ended')
    this.#refused = 0
  }
}

/** What counts as one address; nothing for a unix socket. Whoever has an IPv6 address has 2^64 of them. */
export function networkOf (address: string | undefined = ''): string {
  const plain = address.replace(/^::ffff:(?=\d+\.)/, '')
  if (!plain.includes(':')) return plain
  const [head = ''] = plain.split('::', 1)
  return `${head.split(':').slice(0, 4).join(':')}::/64`
}
