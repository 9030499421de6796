import { Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import type { TaskList } from '../api/task.ts'
import { AppError } from '../errors.ts'
import type { Run } from './run.ts'

export interface ListQuery {
  states: readonly string[] | undefined
  kinds: readonly string[] | undefined
  idPrefix: string | undefined
  limit: number
  cursor: string | undefined
}

/** Where a page ended, and what its first page said. */
const Cursor = Type.Tuple([Type.String(), Type.Integer(), Type.String(), Type.String()])

/**
 * A page of runs, oldest first, made in one turn of the event loop. Every page repeats the event id of the first: who
 * follows the events from there misses nothing that happened while the pages were read.
 *
 * @param runs in the order of (createdAt, runId).
 */
export function listTasks (runs: Iterable<Run>, { instance, lastEventId }: { instance: string, lastEventId: string }, query: ListQuery): TaskList {
  const after = query.cursor === undefined ? undefined : parseCursor(query.cursor, instance)
  const firstEventId = after?.lastEventId ?? lastEventId
  const items: Run[] = []
  let next: string | undefined
  for (const run of runs) {
    if (after !== undefined && !isBehind(run, after)) continue
    if (query.states?.includes(run.state) === false) continue
    if (query.kinds?.includes(run.spec.kind) === false) continue
    if (query.idPrefix !== undefined && !run.id.startsWith(query.idPrefix)) continue
    const last = items.at(-1)
    if (items.length === query.limit && last !== undefined) {
      next = Buffer.from(JSON.stringify([instance, last.createdAt, last.runId, firstEventId])).toString('base64url')
      break
    }
    items.push(run)
  }
  return { instance, lastEventId: firstEventId, items: items.map(run => run.wire()), ...(next !== undefined && { next }) }
}

function isBehind ({ createdAt, runId }: Run, after: { createdAt: number, runId: string }): boolean {
  return createdAt === after.createdAt ? runId > after.runId : createdAt > after.createdAt
}

function parseCursor (text: string, instance: string): { createdAt: number, runId: string, lastEventId: string } {
  let value: unknown
  try {
    value = JSON.parse(Buffer.from(text, 'base64url').toString())
  } catch (error) {
    throw new AppError('bad-request', 'querystring.cursor is not one that a list has given as "next".', { cause: error })
  }
  if (!Value.Check(Cursor, value)) throw new AppError('bad-request', 'querystring.cursor is not one that a list has given as "next".')
  const [of, createdAt, runId, lastEventId] = value
  if (of !== instance) throw new AppError('cursor-gone', 'The agent was restarted since the list was begun, and has forgotten its tasks. Begin the list again, without a cursor.', { members: { instance } })
  return { createdAt, runId, lastEventId }
}
