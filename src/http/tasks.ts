import { Type } from '@sinclair/typebox'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { kinds, TaskSpec } from '../api/kinds.ts'
import { TaskId, taskIdPattern } from '../api/names.ts'
import { Ref, Strict } from '../api/schema.ts'
import { Preview, Task, TaskList, taskStates } from '../api/task.ts'
import { AppError, isErrorCode } from '../errors.ts'
import { namesExactly, namesRevision, parseCondition, type TagCondition } from '../tasks/etag.ts'
import { listTasks } from '../tasks/list.ts'
import { checkRun, type Claim, type TaskRegistry } from '../tasks/registry.ts'
import type { Run } from '../tasks/run.ts'
import { isFinished } from '../tasks/state.ts'
import { applied, maxWaitSeconds, parsePrefer, type Preferences } from './prefer.ts'
import { json, problems } from './responses.ts'
import type { Standing } from './standing.ts'
import { describe, describeList, describeRead, sendTask } from './task-answers.ts'
import type { App } from './types.ts'
import { waitFor } from './wait.ts'

/** How long a PUT waits for the accept step unless the caller says otherwise. */
const acceptWaitMs = 2000

const ById = Strict({ id: TaskId })

const preferHeader = Type.Optional(Type.String({ description: `\`wait=N\`: wait up to N seconds (at most ${maxWaitSeconds}); \`respond-async\`: do not wait.` }))
const ifMatchHeader = (description: string) => Type.Optional(Type.String({ description }))
const runIdQuery = Type.Optional(Type.String({ description: 'Refuse with 412 if the id belongs to another run by now.' }))

interface TaskRoutesOptions {
  registry: TaskRegistry
  startedAt: string
  lastEventId: () => string
  standing?: Pick<Standing, 'during' | 'holds'>
}

/** PUT, GET, DELETE, PATCH of tasks, and their list. */
export function taskRoutes (app: App, { registry, startedAt, lastEventId, standing }: TaskRoutesOptions): void {
  const found = (id: string): Run => {
    const run = registry.find(id)
    if (run !== undefined) return run
    throw new AppError('task-not-found', `No task ${id}. Either it expired, or the agent was restarted since (this instance started at ${startedAt}) and has forgotten it. What it made is on the storage: GET /domains/{domain}/images/{image} tells.`, { members: { instance: registry.instance, startedAt } })
  }

  app.put('/tasks/:id', {
    config: { scope: 'operate' },
    schema: {
      operationId: 'putTask',
      tags: ['tasks'],
      summary: 'Create a task, or claim the one that has this id',
      description: 'The id is the caller\'s. A second PUT of the same command joins the task or is answered with its stored result; another command under the same id is a conflict. It is safe to send a PUT again whenever its reply was lost.',
      params: ById,
      querystring: Strict({ dryRun: Type.Optional(Type.Boolean({ description: 'Only say what would happen.' })) }),
      headers: Type.Object({
        prefer: preferHeader,
        'if-match': ifMatchHeader('The ETag of a finished task whose id is to be used again, or `*`.'),
        'if-none-match': Type.Optional(Type.String({ description: '`*`: only if no task has this id.' })),
        'agent-instance': Type.Optional(Type.String({ description: 'Only if the agent has not been restarted since.' }))
      }),
      body: Ref(TaskSpec),
      response: {
        200: json('The stored result of a finished task, or the answer to a dry run.', Type.Union([Ref(Task), Ref(Preview)])),
        202: json('Accepted, or (state `pending`) still waiting to be.', Ref(Task)),
        ...problems({
          400: 'The request is malformed.',
          404: 'A domain or image does not exist.',
          409: 'The id is another command\'s, or the image is in use or exists.',
          412: 'A precondition does not hold.',
          413: 'The body is too large.',
          415: 'The body is not JSON.',
          422: 'The image or its record cannot be used.',
          500: 'The agent or the storage failed.',
          503: 'Too many active tasks, or the domain is not available.',
          504: 'The storage does not answer.',
          507: 'There is not enough space.'
        })
      }
    }
  }, async (request, reply) => {
    const { id } = request.params
    const conditions = {
      ifMatch: parseCondition('If-Match', request.headers['if-match']),
      ifNoneMatch: parseCondition('If-None-Match', request.headers['if-none-match']),
      instance: request.headers['agent-instance']
    }
    if (request.query.dryRun === true) {
      const { how, run, preview } = await registry.preview(id, request.body, conditions)
      return { outcome: how, ...(run !== undefined && { task: run.wire() }), ...(preview !== undefined && { plan: preview }) }
    }
    const preferences = parsePrefer(request.headers.prefer)
    const claim = registry.claim(id, request.body, conditions)
    const waitMs = preferences.waitSeconds === undefined ? preferences.respondAsync ? 0 : acceptWaitMs : preferences.waitSeconds * 1000
    // the answer is what became of the command, also to who has lost the right to give another: a refusal would say that nothing was done
    if (claim.run.state === 'pending') await waitFor(claim.run, ({ state }) => state !== 'pending', waitMs, request, registry.stopping, standing)
    if (request.headers.prefer !== undefined) tellPreference(reply, applied(preferences))
    return answerClaim(reply, claim)
  })

  app.get('/tasks/:id', {
    config: { scope: 'read' },
    schema: {
      operationId: 'getTask',
      tags: ['tasks'],
      summary: 'Read a task',
      description: 'Reading consumes nothing. With `Prefer: wait=N` it waits until the task has finished; with `If-None-Match` as well, until it has changed its state.',
      params: ById,
      headers: Type.Object({ prefer: preferHeader, 'if-none-match': Type.Optional(Type.String({ description: 'The ETag that was read last.' })) }),
      response: {
        200: json('The task.', Ref(Task)),
        304: { description: 'It is still as If-None-Match says.', type: 'null' },
        ...problems({ 400: 'The request is malformed.', 404: 'The task has expired, was forgotten by a restart, or never was.' })
      }
    }
  }, (request, reply) => {
    const { id } = request.params
    const { prefer, 'if-none-match': known } = request.headers
    // most come without: they are answered in the same turn, without a promise
    return prefer === undefined && known === undefined ? sendTask(reply, found(id)) : showWhenDue(id, request, reply, parsePrefer(prefer), parseCondition('If-None-Match', known))
  })

  const showWhenDue = async (id: string, request: FastifyRequest, reply: FastifyReply, preferences: Preferences, known: TagCondition | undefined): Promise<Task | FastifyReply> => {
    let run = found(id)
    if (preferences.waitSeconds !== undefined) {
      const until = known === undefined ? ({ finished }: Run) => finished : (run: Run) => run.retired || !namesRevision(known, run)
      await waitFor(run, until, preferences.waitSeconds * 1000, request, registry.stopping, standing)
      // meanwhile he may have lost the right to what he waits for
      if (standing?.holds(request, reply) === false) return reply
      tellPreference(reply, applied({ ...preferences, respondAsync: false }))
      // by now the id may be another run's, or nobody's
      run = found(id)
    }
    const task = describeRead(reply, run)
    return known !== undefined && namesExactly(known, run) ? reply.code(304).send() : task
  }

  app.delete('/tasks/:id', {
    // vital: the way out of too much work
    config: { scope: 'operate', vital: true },
    schema: {
      operationId: 'cancelTask',
      tags: ['tasks'],
      summary: 'Cancel a task',
      description: 'Asks an active task to stop; nothing is reverted: a half-done copy stays `interrupted`, to be mended or deleted. A finished task is left as it is, unless If-Match names it: then it is forgotten now.',
      params: ById,
      querystring: Strict({ runId: runIdQuery }),
      headers: Type.Object({ 'if-match': ifMatchHeader('Only this run. Of a finished task: forget it.') }),
      response: {
        200: json('It had finished before.', Ref(Task)),
        202: json('It is stopping.', Ref(Task)),
        204: { description: 'It is forgotten.', type: 'null' },
        ...problems({
          400: 'The request is malformed.',
          404: 'No such task.',
          409: 'This kind cannot be canceled.',
          412: 'The id belongs to another run.',
          413: 'The body is too large.',
          415: 'The body is not JSON.'
        })
      }
    }
  }, async (request, reply) => {
    const ifMatch = parseCondition('If-Match', request.headers['if-match'])
    const run = found(request.params.id)
    checkRun(run, request.query.runId, ifMatch)
    if (run.finished) {
      if (ifMatch === undefined) return describe(reply, run)
      if (!namesRevision(ifMatch, run)) throw new AppError('precondition-failed', `Task ${run.id} has ${run.state} since If-Match was read.`, { members: { task: run.wire() } })
      registry.forget(run)
      return reply.code(204).send()
    }
    registry.cancel(run)
    reply.code(202)
    return describe(reply, run)
  })

  app.patch('/tasks/:id', {
    config: { scope: 'operate' },
    schema: {
      operationId: 'tuneTask',
      tags: ['tasks'],
      summary: 'Change the bandwidth of a running copy',
      description: 'From the next window on. It changes neither the command nor its digest.',
      params: ById,
      querystring: Strict({ runId: runIdQuery }),
      headers: Type.Object({ 'if-match': ifMatchHeader('Only this run.') }),
      body: Strict({ bandwidth: Type.Union([Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER }), Type.Null()], { description: 'Bytes per second; null lifts the limit.' }) }),
      response: {
        200: json('The task.', Ref(Task)),
        ...problems({ 400: 'The request is malformed.', 404: 'No such task.', 409: 'The task has finished.', 412: 'The id belongs to another run.', 413: 'The body is too large.', 415: 'The body is not JSON.' })
      }
    }
  }, async (request, reply) => {
    const ifMatch = parseCondition('If-Match', request.headers['if-match'])
    const run = found(request.params.id)
    checkRun(run, request.query.runId, ifMatch)
    registry.tune(run, request.body)
    return describe(reply, run)
  })

  app.get('/tasks', {
    config: { scope: 'read' },
    schema: {
      operationId: 'listTasks',
      tags: ['tasks'],
      summary: 'List tasks',
      description: 'Oldest first, page by page. Follow /events from `lastEventId` of the first page and nothing is missed.',
      querystring: Strict({
        state: Type.Optional(Type.Array(Type.String(), { description: `States, also separated by commas: ${taskStates.join(', ')}, or \`active\`, \`finished\`.` })),
        kind: Type.Optional(Type.Array(Type.String(), { description: `Kinds, also separated by commas: ${kinds.join(', ')}.` })),
        idPrefix: Type.Optional(Type.String({ maxLength: 255, pattern: taskIdPattern })),
        limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000, default: 100 })),
        cursor: Type.Optional(Type.String({ maxLength: 1000, description: '`next` of the page before.' }))
      }),
      response: {
        200: json('A page of tasks.', Ref(TaskList)),
        ...problems({ 400: 'The request is malformed.', 410: 'The cursor is of another instance of the agent.' })
      }
    }
  }, async (request, reply) => {
    const { state, kind, idPrefix, limit = 100, cursor } = request.query
    return describeList(reply, listTasks(registry.runs(), { instance: registry.instance, lastEventId: lastEventId() }, {
      states: state?.flatMap(list => list.split(',')).flatMap(expandState),
      kinds: kind?.flatMap(list => list.split(',')).map(checkKind),
      idPrefix,
      limit,
      cursor
    }))
  })
}

function answerClaim (reply: FastifyReply, { how, run }: Claim): Task {
  if (how !== 'created') reply.header('idempotent-replayed', 'true')
  if (run.state === 'rejected' && run.error !== undefined) {
    const { code, detail, type: _, title: __, status: ___, ...members } = run.error
    throw new AppError(isErrorCode(code) ? code : 'internal', detail, { members: { ...members, task: run.wire() } })
  }
  reply.header('location', `/tasks/${encodeURIComponent(run.id)}`)
  reply.code(how === 'stored' ? 200 : 202)
  return describe(reply, run)
}

function tellPreference (reply: FastifyReply, preference: string | undefined): void {
  if (preference !== undefined) reply.header('preference-applied', preference)
}

function expandState (word: string): string[] {
  if (word === 'active') return taskStates.filter(state => !isFinished(state))
  if (word === 'finished') return taskStates.filter(isFinished)
  if (!(taskStates as readonly string[]).includes(word)) throw new AppError('bad-request', `querystring.state: "${word}" is no state of a task. There are ${taskStates.join(', ')}, and the groups active and finished.`)
  return [word]
}

function checkKind (word: string): string {
  if (!(kinds as readonly string[]).includes(word)) throw new AppError('bad-request', `querystring.kind: "${word}" is no kind of task. There are ${kinds.join(', ')}.`)
  return word
}
