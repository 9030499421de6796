import { setTimeout as sleep } from 'node:timers/promises'
import { EventSourceParserStream } from 'eventsource-parser/stream'
import { Readable } from 'node:stream'
import { ProblemError } from './errors.ts'
import type { Transport } from './transport.ts'
import type { AgentEvent, EventQuery } from './types.ts'

export interface FollowOptions extends EventQuery {
  /** Where to go on: the `id` of an event, or the `lastEventId` of a list. Without it, the stream begins with all tasks. */
  lastEventId?: string
  signal?: AbortSignal
}

/** Follows the stream of an agent for ever, or until the signal is aborted. */
export async function * followEvents (transport: Transport, { lastEventId, signal, ...query }: FollowOptions): AsyncGenerator<AgentEvent> {
  let cursor = lastEventId
  let retryMs = 2000
  const isOver = () => signal?.aborted === true
  while (!isOver()) {
    try {
      const response = await transport.open('/events', { query, headers: { 'last-event-id': cursor }, signal })
      const frames = Readable.toWeb(response.body)
        .pipeThrough(new TextDecoderStream())
        .pipeThrough(new EventSourceParserStream({ onRetry: ms => { retryMs = ms } }))
      for await (const { id, event, data } of frames) {
        if (id !== undefined) cursor = id
        // a heartbeat has no data, only a cursor
        if (event === undefined || data === '') continue
        yield { event, data: JSON.parse(data), ...(id !== undefined && { id }) } as AgentEvent
      }
    } catch (error) {
      if (isOver()) return
      // a refusal is final; a lost connection is not
      if (error instanceof ProblemError && error.status < 500) throw error
    }
    await sleep(retryMs * (0.5 + Math.random() / 2), undefined, { signal }).catch(() => { /* aborted: the loop ends */ })
  }
}
