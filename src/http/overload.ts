import type { Socket } from 'node:net'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { AppError } from '../errors.ts'
import type { App } from './types.ts'

const lookEveryMs = 500
/** When a turn of the event loop has taken so long, requests that are not vital wait for a later one. */
const longTurnMs = 20
/** To be told when a turn ends costs as much as all else here. Of requests that come this close after another, few are looked at: with many in a turn, they tell as well. */
const closeMs = 1
const lookAtOneOfClose = 16

interface Waiting {
  since: number
  socket: Socket
  done: (error?: Error) => void
}

/**
 * What becomes of requests while the agent has more of them than it can serve. What is vital is not asked about here, and
 * served at once: health, cancel, streams.
 *
 * Not @fastify/under-pressure: its hook comes with its plugin, after those that find out who asks, it looks at memory all
 * the time, too, and it refuses what need only wait.
 */
export class Load {
  readonly #maxLagMs: number
  readonly #lagMs: () => number
  readonly #waiting: Waiting[] = []
  #serving = false
  /** When the turn of the event loop that is under way began, if anybody has looked. */
  #turnBegan: number | undefined
  #lastAt = 0
  #close = 0

  constructor (app: App, maxLagMs: number) {
    this.#maxLagMs = maxLagMs
    this.#lagMs = watchLag(app, maxLagMs)
  }

  /** Throws `agent-overloaded` while the event loop lags: before anything is done for a request. */
  check (): void {
    const lagMs = this.#lagMs()
    if (lagMs > this.#maxLagMs) throw tooLate(lagMs)
  }

  /**
   * Calls back when it is a request's turn; with `agent-overloaded` when that comes too late: a queue that only grows helps
   * nobody. Mostly it is its turn now. But of requests that come together, all would be served in one turn of the event
   * loop, a thousand long lists in seconds, and whatever is vital would wait for all of them.
   *
   * Of who hangs up while he waits it is never the turn: whatever waits for something would not hear that he has gone.
   */
  admit (socket: Socket, done: (error?: Error) => void): void {
    const now = performance.now()
    if (this.#turnBegan === undefined && (now - this.#lastAt > closeMs || ++this.#close % lookAtOneOfClose === 0)) {
      this.#turnBegan = now
      setImmediate(() => { this.#turnBegan = undefined })
    }
    this.#lastAt = now
    if (!this.#serving && (this.#turnBegan === undefined || now - this.#turnBegan < longTurnMs)) {
      done()
      return
    }
    // whoever comes last in a turn has waited since it began
    this.#waiting.push({ since: this.#turnBegan ?? now, socket, done })
    if (!this.#serving) void this.#serve()
  }

  /** Serves those that wait, in each turn of the event loop as many as it has time for. */
  async #serve (): Promise<void> {
    this.#serving = true
    await nextTurn()
    for (let atOnce = 1; this.#waiting.length > 0;) {
      const began = performance.now()
      const served = this.#waiting.splice(0, atOnce)
      for (const { since, socket, done } of served) {
        if (!socket.destroyed) done(began - since > this.#maxLagMs ? tooLate(began - since) : undefined)
      }
      // what they cost is known when the promises in which answers are made have had their turn, too
      await nextTurn()
      const ms = performance.now() - began
      if (ms > longTurnMs) atOnce = Math.max(1, atOnce / 2)
      else if (ms < longTurnMs / 2 && served.length === atOnce) atOnce *= 2
    }
    this.#serving = false
  }
}

/** Looks how late the event loop is, in milliseconds, while the application runs. */
function watchLag (app: App, maxLagMs: number): () => number {
  // as fine as the limit needs: each look wakes an agent at rest
  const resolutionMs = Math.min(100, Math.max(10, Math.round(maxLagMs / 10)))
  const delay = monitorEventLoopDelay({ resolution: resolutionMs })
  let lagMs = 0
  let lastMs = 0
  delay.enable()
  const timer = setInterval(() => {
    const nowMs = delay.count === 0 ? 0 : Math.max(0, delay.mean / 1e6 - resolutionMs)
    // twice in a row: a host that stood still for a moment is no overload, and by now it is over
    lagMs = Math.min(lastMs, nowMs)
    lastMs = nowMs
    delay.reset()
  }, lookEveryMs).unref()
  app.addHook('onClose', async () => {
    clearInterval(timer)
    delay.disable()
  })
  return () => lagMs
}

function tooLate (ms: number): AppError {
  return new AppError('agent-overloaded', `The agent lags ${Math.round(ms)} ms behind. Come again in a moment; running copies are not affected.`, { members: { retryAfter: 2 } })
}

/** Why an address with too many replies that nobody takes gets no more of them. */
export function tooMuchUnread (): AppError {
  return new AppError('agent-overloaded', 'Clients at this address ask for more than they read. Connections that take nothing are ended; come again in a moment.', { members: { retryAfter: 2 } })
}
