import { setTimeout as sleep } from 'node:timers/promises'
import { Readable } from 'node:stream'
import { ProblemError, UnreachableError } from './errors.ts'
import { parseFrames } from './frames.ts'
import type { Transport } from './transport.ts'
import type { AgentEvent, EventQuery } from './types.ts'

export interface FollowOptions extends EventQuery {
  /** Where to go on: the `id` of an event, or the `lastEventId` of a list. Without it, the stream begins with all tasks. */
  lastEventId?: string
  /** Told each time that the connection is lost or cannot be made; another try follows. `synced` says that there is one again. */
  onLost?: (error: ProblemError | UnreachableError) => void
  signal?: AbortSignal
}

/** Follows the stream of an agent for ever, or until the signal is aborted or the client is closed. */
export async function * followEvents (transport: Transport, { lastEventId, onLost = () => {}, signal, ...query }: FollowOptions): AsyncGenerator<AgentEvent> {
  let cursor = lastEventId
  let retryMs = 2000
  const isOver = () => signal?.aborted === true || transport.closed
  while (!isOver()) {
    try {
      const response = await transport.open('/events', { query, headers: { 'last-event-id': cursor }, signal })
      const text = Readable.toWeb(response.body).pipeThrough(new TextDecoderStream())
      for await (const { id, event, data, retryMs: told } of parseFrames(text)) {
        if (told !== undefined) retryMs = told
        if (id !== undefined) cursor = id
        // a heartbeat has no data, only a cursor
        if (event === undefined || data === undefined) continue
        yield { event, data: JSON.parse(data), ...(id !== undefined && { id }) } as AgentEvent
      }
      if (!isOver()) onLost(new UnreachableError(transport.url, new Error('the stream has ended')))
    } catch (error) {
      if (isOver()) return
      // a refusal is final; a lost connection is not, and neither is having asked too often
      if (error instanceof ProblemError && error.status < 500 && error.status !== 429) throw error
      onLost(error instanceof ProblemError ? error : new UnreachableError(transport.url, error))
    }
    await sleep(retryMs * (0.5 + Math.random() / 2), undefined, { signal }).catch(() => { /* aborted: the loop ends */ })
  }
}
