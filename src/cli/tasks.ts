import type { Command } from 'commander'
import type { Task, TaskList } from '../client/types.ts'
import { attend } from './attend.ts'
import { exit, explain } from './exit.ts'
import { paintState } from './output.ts'
import type { Session } from './session.ts'
import { outcomeOf, progressOf, subjectOf, verbOf } from './words.ts'

interface ListOptions {
  state?: string[]
  kind?: string[]
  idPrefix?: string
}

/** `tasks`, `task`, `wait` and `cancel`. */
export function addTasks (program: Command, session: Session): void {
  program.command('tasks')
    .description('list the tasks that the agent remembers')
    .option('--state <states...>', 'only these: active, finished, or states such as running, failed')
    .option('--kind <kinds...>', 'only these kinds: storage.copyImage')
    .option('--id-prefix <prefix>', 'only those whose id begins so')
    .addHelpText('after', `
Examples:
  vdsm-tasks tasks
  vdsm-tasks tasks --state active
  vdsm-tasks tasks --state failed --json | jq -r '.items[].error.detail'`)
    .action(async (options: ListOptions) => { await listTasks(session, options) })

  program.command('task')
    .description('tell about a task')
    .argument('<id>', 'the task')
    .addHelpText('after', `
Examples:
  vdsm-tasks task nightly-42
  vdsm-tasks task nightly-42 --json | jq .progress`)
    .action(async (id: string) => { tellTask(session, (await session.client.getTask(id)).task) })

  program.command('wait')
    .description('follow tasks to their end; without an id, all that are active')
    .argument('[id...]', 'the tasks')
    .addHelpText('after', `
Ctrl-C asks whether to cancel them or to leave them to the agent; when nobody can be asked, they are left.
The exit status is that of the first task that did not succeed.

Examples:
  vdsm-tasks wait nightly-42 && echo copied
  vdsm-tasks wait`)
    .action(async (ids: string[]) => {
      const tasks = ids.length === 0 ? (await everyTask(session, { state: ['active'] })).items : await Promise.all(ids.map(async id => (await session.client.getTask(id)).task))
      if (tasks.length === 0) session.say('No task is active.')
      await attend(session, tasks)
    })

  program.command('cancel')
    .description('stop tasks; what is copied stays, and mend continues it')
    .argument('<id...>', 'the tasks')
    .addHelpText('after', `
Examples:
  vdsm-tasks cancel nightly-42
  vdsm-tasks cancel nightly-42 --json | jq -r .state`)
    .action(async (ids: string[]) => { await cancel(session, ids) })
}

async function listTasks (session: Session, options: ListOptions): Promise<void> {
  const { json, out } = session
  const list = await everyTask(session, options)
  if (json) return out.document(list)
  if (list.items.length === 0) return session.say('There are no tasks.')
  out.table(['id', 'kind', 'state', 'about', 'how far'], list.items.map(task => [task.id, verbOf(task.kind), task.state, subjectOf(task.spec), howFar(task)]))
}

/** All pages as one list, which continues in the events where its first page does. */
async function everyTask ({ client }: Session, query: ListOptions): Promise<TaskList> {
  const { next, ...list } = await client.listTasks({ ...query, limit: 1000 })
  for (let cursor = next; cursor !== undefined;) {
    const page = await client.listTasks({ ...query, limit: 1000, cursor })
    list.items.push(...page.items)
    cursor = page.next
  }
  return list
}

function howFar (task: Task): string {
  if (task.endedAt !== undefined) return outcomeOf(task)
  return task.progress === undefined ? '' : progressOf(task.progress)
}

function tellTask ({ json, out }: Session, task: Task): void {
  if (json) return out.document(task)
  const { id, kind, spec, state, createdAt, endedAt, expiresAt, error } = task
  out.fields([
    ['task', id],
    ['kind', kind],
    ['about', subjectOf(spec)],
    ['state', state],
    [endedAt === undefined ? 'how far' : 'outcome', howFar(task) || undefined],
    ['code', error?.code],
    ['created', createdAt],
    ['ended', endedAt],
    ['kept until', expiresAt]
  ])
}

/** Asks all of them to stop, then waits until they have: to be told to stop is not to have stopped. */
async function cancel (session: Session, ids: readonly string[]): Promise<void> {
  const { client, json, out } = session
  const asked = await Promise.allSettled(ids.map(async id => await client.cancelTask(id)))
  for (const one of asked) {
    if (one.status === 'fulfilled') {
      const task = await client.waitForTask(one.value.id)
      if (json) out.record(task)
      else out.line(paintState(task.state), `  ${task.id}  ${outcomeOf(task)}`)
    } else {
      // the others are canceled whatever happens to this one
      const { status, message = '', problem } = explain(one.reason)
      if (json) out.record(problem)
      session.say(message)
      if (session.status === exit.done) session.status = status
    }
  }
}
