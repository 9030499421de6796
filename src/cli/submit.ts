import { randomBytes } from 'node:crypto'
import type { Command } from 'commander'
import { UnreachableError } from '../client/errors.ts'
import type { Task, TaskSpec } from '../client/types.ts'
import { attend } from './attend.ts'
import { exit } from './exit.ts'
import { Patience } from './follow.ts'
import type { Session } from './session.ts'
import { verbOf } from './words.ts'

export interface SubmitOptions {
  id?: string
  detach?: boolean
}

/** The options of every command that makes a task. */
export function withTaskOptions (command: Command): Command {
  return command
    .option('--id <id>', 'the name of the task; sent again under the same name, the command is joined, not done twice (default: a new one)')
    .option('--detach', 'do not wait for the end of the task')
}

/** A name that nobody else has. */
export function newId (kind: string): string {
  return `${verbOf(kind)}-${randomBytes(4).toString('hex')}`
}

/** Makes a task, follows it to its end, and returns it as it is then. With `resend` it goes on across restarts of the agent. */
export async function submit (session: Session, spec: TaskSpec, { id = newId(spec.kind), detach = false }: SubmitOptions, { resend = false }: { resend?: boolean } = {}): Promise<Task> {
  // whoever does not stay wants to know that it was accepted, for which Gluster takes its time
  const task = await put(session, id, spec, detach ? { waitSeconds: spec.kind.startsWith('gluster.') ? 60 : 10 } : {})
  if (!detach || task.endedAt !== undefined) return (await attend(session, [task], { resend }))[0] ?? task
  if (session.json) session.out.record(task)
  else session.out.line(`${id}  ${task.state}; to follow it: ${session.hint(`wait ${id}`)}`)
  return task
}

/** Sends the command, again if its reply is lost: it is executed once. */
export async function put (session: Session, id: string, spec: TaskSpec, options: { waitSeconds?: number } = {}): Promise<Task> {
  session.onInterrupt(() => {
    session.say()
    session.say(`If the agent has accepted it, it goes on: ${session.hint(`task ${id}`)}`)
    session.exit(exit.interrupted)
  })
  const send = async () => await session.client.putTask(id, spec, options)
  const { task, replayed } = await send().catch(async (error: unknown) => {
    if (!(error instanceof UnreachableError) || neverArrived(error)) throw error
    return await new Patience(session.patienceMs, text => { session.say(text) }).insist(send)
  })
  session.onInterrupt(undefined)
  if (replayed) session.say(task.endedAt === undefined ? `${id} was there before: joined.` : `${id} had ended before: this is its stored result.`)
  return task
}

/** Nobody is there, and nobody got the command. */
function neverArrived ({ cause }: UnreachableError): boolean {
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined
  return ['ECONNREFUSED', 'ENOENT', 'EACCES', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'UND_ERR_CONNECT_TIMEOUT'].some(known => known === code)
}
