import { monitorEventLoopDelay } from 'node:perf_hooks'
import { AppError } from '../errors.ts'
import type { App } from './types.ts'

const lookEveryMs = 500
const lookAtOneOf = 16

/**
 * Makes the check that refuses requests, before anything is done for them, while the event loop lags: the agent has more to do than it can,
 * and a queue that only grows helps nobody. What is vital is always answered: health, cancel, streams.
 *
 * Not @fastify/under-pressure: its hook comes with its plugin, after those that find out who asks, and it looks at memory all the time, too.
 */
export function guardLoad (app: App, maxLagMs: number): () => void {
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
  let turnBegan: number | undefined
  let requests = 0
  return () => {
    // to be told when a turn ends costs as much as all else here; with thousands of requests in it, these few tell as well
    if (turnBegan === undefined && ++requests % lookAtOneOf === 0) {
      turnBegan = performance.now()
      setImmediate(() => { turnBegan = undefined })
    }
    // whoever comes last in a turn with thousands of requests has waited for all of them, and the timer waits with him
    const ms = turnBegan === undefined ? lagMs : Math.max(lagMs, performance.now() - turnBegan)
    if (ms > maxLagMs) throw new AppError('agent-overloaded', `The agent lags ${Math.round(ms)} ms behind. Come again in a moment; running copies are not affected.`, { members: { retryAfter: 2 } })
  }
}

/** Why an address with too many replies that nobody takes gets no more of them. */
export function tooMuchUnread (): AppError {
  return new AppError('agent-overloaded', 'Clients at this address ask for more than they read. Connections that take nothing are ended; come again in a moment.', { members: { retryAfter: 2 } })
}
