import type { FastifyReply } from 'fastify'
import type { Task, TaskList } from '../api/task.ts'
import { retryAfter } from '../tasks/registry.ts'
import type { Run } from '../tasks/run.ts'
import { makeReady, mediaType, sendReady, setHeaders, type Ready } from './headers.ts'

/** What an answer to a GET says of its own future. */
const caching = ['vary', 'Prefer', 'cache-control', 'private, no-cache']

// Tasks are read more often than they change, and `wire()` gives the same object until they do. Making the text is most
// of what a list costs, and a sixth of a GET (scripts/bench/http.mjs).
const texts = new WeakMap<Task, string>()
// all of an answer follows from that object
const answers = new WeakMap<Task, Ready>()

/** Answers a GET that asks for nothing but the task. */
export function sendTask (reply: FastifyReply, run: Run): void {
  const task = run.wire()
  let answer = answers.get(task)
  if (answer === undefined) {
    answer = makeReady(reply.server.commonHeaders, [...caching, ...about(run)], textOf(task))
    answers.set(task, answer)
  }
  sendReady(reply, answer)
}

/** Says in the head of a reply what every answer with a run says there. Returns the body. */
export function describe (reply: FastifyReply, run: Run): Task {
  setHeaders(writeAs(reply, textOf), about(run))
  return run.wire()
}

/** The same of a reply to a GET. */
export function describeRead (reply: FastifyReply, run: Run): Task {
  setHeaders(reply, caching)
  return describe(reply, run)
}

/** Makes a reply one with a list. Not before there is one: a refusal is no list. */
export function describeList (reply: FastifyReply, list: TaskList): TaskList {
  writeAs(reply, textOfList)
  return list
}

function about (run: Run): readonly string[] {
  return run.finished ? ['etag', run.etag] : ['etag', run.etag, 'retry-after', String(retryAfter(run))]
}

/** Fastify leaves the media type to whoever brings a serializer. */
function writeAs<T> (reply: FastifyReply, text: (payload: T) => string): FastifyReply {
  return reply.type(mediaType).serializer(text)
}

function textOf (task: Task): string {
  const known = texts.get(task)
  if (known !== undefined) return known
  const text = JSON.stringify(task)
  texts.set(task, text)
  return text
}

function textOfList ({ items, ...others }: TaskList): string {
  return `${JSON.stringify(others).slice(0, -1)},"items":[${items.map(textOf).join()}]}`
}
