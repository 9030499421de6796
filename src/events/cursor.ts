import type { ResetReason } from '../api/event.ts'

/** Where a subscriber goes on: from nothing, behind a sequence number, nowhere (it was told all), or anew for a reason. */
export type Start =
  | { at: 'beginning' }
  | { at: 'sequence', seq: number }
  | { at: 'end' }
  | { at: 'reset', reason: ResetReason }

/** The sequence numbers that a cursor can point behind. */
export interface Extent {
  instance: string
  /** The smallest number that is still remembered. */
  oldest: number
  /** The number of the newest event; 0 before the first. */
  newest: number
}

/** The id of a frame. */
export function cursorOf (instance: string, seq: number): string {
  return `${instance}-${seq}`
}

/**
 * The id of the last frame that a stream about a forgotten task can have. EventSource always connects again, and
 * without a mark of its own that second request would look like the first and be answered the same, for ever.
 */
export function endCursor (instance: string): string {
  return `${instance}-end`
}

/** Finds the place that a cursor names. Nothing is an error: EventSource gives up for good on a 4xx. */
export function locate (cursor: string | undefined, { instance, oldest, newest }: Extent): Start {
  // an EventSource that has seen no id sends none, and a client that keeps "" has seen none either
  if (cursor === undefined || cursor === '') return { at: 'beginning' }
  // an instance may contain dashes itself
  const [, of, place] = /^(.+)-(0|[1-9]\d{0,15}|end)$/s.exec(cursor) ?? []
  if (of === undefined || place === undefined) return { at: 'reset', reason: 'malformed' }
  if (of !== instance) return { at: 'reset', reason: 'instance-changed' }
  if (place === 'end') return { at: 'end' }
  const seq = Number(place)
  if (seq > newest) return { at: 'reset', reason: 'future' }
  if (seq < oldest - 1) return { at: 'reset', reason: 'evicted' }
  return { at: 'sequence', seq }
}
