import { Type } from '@sinclair/typebox'
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import { AgentEvent, eventTypes, type EventType } from '../api/event.ts'
import { TaskId } from '../api/names.ts'
import { Ref, Strict } from '../api/schema.ts'
import type { Task } from '../api/task.ts'
import { AppError } from '../errors.ts'
import type { Start } from '../events/cursor.ts'
import type { Feed, Listener } from '../events/feed.ts'
import { headersOf } from './headers.ts'
import { sendProblem } from './problems.ts'
import { problems } from './responses.ts'
import { leaveToStream } from './stuck.ts'
import type { Standing } from './standing.ts'
import type { App } from './types.ts'

/** What the routes need of the registry. */
export interface TaskFinder {
  /** The task that has this id now, as callers see it. */
  find (id: string): Task | undefined
}

const oneType = `(?:${eventTypes.join('|')})`

// no pattern and no bound: whatever is wrong with a cursor is answered with `reset`
const lastEventId = Type.Optional(Type.String({
  description: 'Continue behind this frame. For clients that cannot set the header `Last-Event-ID`, which goes first.',
  examples: ['5f0c9f1e-1042']
}))

// unknown parameters are let through: EventSource polyfills add their own, and cannot recover from a 400
const EventsQuery = Type.Object({
  type: Type.Optional(Type.Array(Type.String({ pattern: `^${oneType}(?:,${oneType})*$` }), {
    description: `Only these frames: one or more of \`${eventTypes.join('`, `')}\`, separated by commas or repeated.`,
    examples: [['task,progress']]
  })),
  kind: Type.Optional(Type.Array(Type.String(), {
    description: 'Of the frames about tasks only those of these kinds; separated by commas or repeated.',
    examples: [['storage.copyImage']]
  })),
  idPrefix: Type.Optional(Type.String({ description: 'Of the frames about tasks only those whose id begins so.', examples: ['nightly-'] })),
  lastEventId
})

const stream = {
  description: 'Frames of `text/event-stream`, until the connection ends.',
  content: { 'text/event-stream': { schema: Ref(AgentEvent) } }
}

/** `GET /events` and `GET /tasks/{id}/events`. Their streams end when the server closes, or when their callers may not read any more. */
export function eventRoutes (app: App, { feed, tasks, standing }: { feed: Feed, tasks: TaskFinder, standing?: Pick<Standing, 'watch'> }): void {
  const take = (request: FastifyRequest, reply: FastifyReply, start: Start): Listener => {
    standing?.watch(request)
    return { ...takeOut(request, reply), start }
  }
  // all subscribers of a proxy or an engine may come back at once with one token
  const answerError = (error: FastifyError, request: FastifyRequest, reply: FastifyReply) => {
    if (error instanceof AppError && error.code === 'too-many-requests') feed.refuse(takeOut(request, reply), Number(error.members['maximum']))
    else sendProblem(error, request, reply)
  }
  // before Fastify waits for open connections, which these would be for ever
  app.addHook('preClose', async () => { await feed.close() })

  app.get('/events', {
    // vital: EventSource takes an HTTP error for the end, and never comes back
    config: { scope: 'read', vital: true },
    exposeHeadRoute: false,
    errorHandler: answerError,
    preValidation: joinCursors,
    schema: {
      operationId: 'followEvents',
      summary: 'Follow everything that happens',
      description: 'A stream of events. Without a cursor it begins with every retained task; then comes `synced`, then what happens. With the cursor of an earlier stream it begins with what was missed; if that is not remembered, with `reset` and everything anew. `task`, `operation`, `image` and `forgotten` frames carry a cursor and are never left out; `progress` and `operationProgress` are, when newer ones take their place.',
      tags: ['events'],
      querystring: EventsQuery,
      response: { 200: stream, ...problems({ 400: 'A filter is malformed. A cursor never is: whatever is wrong with it is answered with `reset`.' }) }
    }
  }, (request, reply) => {
    const { type, kind, idPrefix } = request.query
    feed.listen(take(request, reply, feed.locate(cursor(request))), {
      ...(type !== undefined && { types: split(type).filter(isEventType) }),
      ...(kind !== undefined && { kinds: split(kind) }),
      ...(idPrefix !== undefined && { idPrefix })
    })
  })

  app.get('/tasks/:id/events', {
    config: { scope: 'read', vital: true },
    exposeHeadRoute: false,
    errorHandler: answerError,
    preValidation: joinCursors,
    schema: {
      operationId: 'followTask',
      summary: 'Follow a task to its end',
      description: 'A stream of what happens to the run that has the id now. It begins like `/events`, and ends behind the frame in which the task has finished. A client that comes back with the cursor of that frame gets 204, which tells EventSource to stop.',
      tags: ['events'],
      params: Strict({ id: TaskId }),
      querystring: Type.Object({ lastEventId }),
      response: {
        200: stream,
        204: Type.Null({ description: 'The end of the task has been seen: there is nothing more to tell.' }),
        ...problems({ 400: 'The id is malformed.', 404: 'No task has this id.' })
      }
    }
  }, (request, reply) => {
    const { id } = request.params
    const task = tasks.find(id)
    const start = feed.locate(cursor(request))
    if (task === undefined && start.at === 'beginning') {
      throw new AppError('task-not-found', `There is no task ${id}: it has expired, or this instance of the agent never had it.`)
    }
    if (task === undefined ? feed.isDoneWith(start, id) : feed.hasSeenEnd(start, task)) {
      reply.code(204).send(null)
    } else if (task === undefined) {
      feed.tellForgotten(take(request, reply, start), id)
    } else {
      feed.follow(take(request, reply, start), task, wanted => tasks.find(wanted))
    }
  })
}

/** Takes the response out of Fastify's hands, with the headers that hooks have set so far. */
function takeOut (request: FastifyRequest, reply: FastifyReply): Omit<Listener, 'start'> {
  reply.hijack()
  // one that stalls is noticed by the feed
  leaveToStream(request.raw.socket)
  // behind a unix socket nobody has an address
  const address = request.ip === '' ? undefined : request.ip
  return { response: reply.raw, headers: headersOf(reply), address }
}

function cursor ({ headers, query }: FastifyRequest): string | undefined {
  const header = headers['last-event-id']
  if (header !== undefined && header !== '') return String(header)
  const { lastEventId } = query as { lastEventId?: string }
  return lastEventId
}

/** A repeated cursor is an array, which validation would answer with 400; joined it is merely a wrong one. */
async function joinCursors (request: FastifyRequest): Promise<void> {
  const query = request.query as Record<string, unknown>
  if (Array.isArray(query['lastEventId'])) query['lastEventId'] = query['lastEventId'].join(',')
}

function split (values: readonly string[]): string[] {
  return values.flatMap(value => value.split(',')).filter(value => value !== '')
}

function isEventType (word: string): word is EventType {
  return eventTypes.some(type => type === word)
}
