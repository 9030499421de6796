import type { Task } from '../client/types.ts'
import { openDisplay, type Display } from './display.ts'
import { exit, explain, statusOfProblem, type ExitStatus } from './exit.ts'
import { follow, type Ending } from './follow.ts'
import { inCommands } from './glossary.ts'
import { paint } from './output.ts'
import type { Session } from './session.ts'
import { outcomeOf, remainsOf } from './words.ts'

/**
 * Follows tasks for the person in front: shows how far they are, asks on Ctrl-C, and tells what came of each. With
 * `resend` the command of a task that a restarted agent has forgotten is sent again.
 */
export async function attend (session: Session, tasks: readonly Task[], { resend = false }: { resend?: boolean } = {}): Promise<Task[]> {
  const { client, patienceMs } = session
  const display = openDisplay(session.stderr)
  const open = new Map(tasks.map(task => [task.id, task]))
  const over = new AbortController()
  const ended: Task[] = []
  let canceled = false
  session.onInterrupt(whenInterrupted(session, display, { open, over: over.signal, onCancel: () => { canceled = true } }))
  try {
    await follow(tasks, {
      client,
      patienceMs,
      resend,
      onTask: task => {
        open.set(task.id, task)
        display.show(task)
      },
      onNote: text => { display.aside(() => { session.say(text) }) },
      onContinued: (task, by) => {
        open.delete(task.id)
        display.remove(task.id)
        open.set(by.id, by)
      },
      onEnd: ending => {
        ended.push(ending.task)
        open.delete(ending.task.id)
        display.remove(ending.task.id)
        display.aside(() => { report(session, ending) })
        // the first one that is not well decides
        if (session.status === exit.done) session.status = statusOf(ending)
      }
    })
  } finally {
    over.abort()
    display.pause()
    session.onInterrupt(undefined)
  }
  if (canceled) session.status = exit.interrupted
  return ended
}

interface Watched {
  open: ReadonlyMap<string, Task>
  /** Aborted when there is nothing left to ask about. */
  over: AbortSignal
  onCancel: () => void
}

/** What Ctrl-C does: asks, where there is somebody to ask; a second time, or without anybody, it leaves at once. */
function whenInterrupted (session: Session, display: Display, { open, over, onCancel }: Watched): () => void {
  let isAgain = false
  return () => {
    display.pause()
    if (isAgain || !session.interactive) leave(session, [...open.keys()])
    isAgain = true
    void ask(session, [...open.values()], over).then(answer => {
      if (over.aborted) return
      if (answer === 'leave') leave(session, [...open.keys()])
      if (answer === 'cancel') onCancel()
      // whoever goes on watching may be asked again
      else isAgain = false
      display.resume()
    })
  }
}

async function ask (session: Session, tasks: readonly Task[], signal: AbortSignal): Promise<'cancel' | 'leave' | 'watch'> {
  const which = tasks.length === 1 ? `task ${tasks[0]?.id}` : `${tasks.length} tasks`
  const answer = await session.ask(`Cancel ${which}, or leave ${tasks.length === 1 ? 'it' : 'them'} to the agent? [c]ancel, [l]eave, Enter to go on watching: `, signal)
  if (answer === undefined || /^l/i.test(answer)) return 'leave'
  if (!/^c/i.test(answer)) return 'watch'
  for (const { id, runId } of tasks) {
    await session.client.cancelTask(id, { runId }).catch((error: unknown) => {
      session.say(`${id} is not canceled: ${explain(error).message}`)
    })
  }
  return 'cancel'
}

/** Ends the command, not the tasks. */
function leave (session: Session, ids: readonly string[]): never {
  const list = ids.join(' ')
  session.say()
  session.say(`${list}: the agent goes on.`)
  session.say(`  look:    ${session.hint(ids.length === 1 ? `task ${list}` : 'tasks --state active')}`)
  session.say(`  follow:  ${session.hint(`wait ${list}`)}`)
  session.say(`  cancel:  ${session.hint(`cancel ${list}`)}`)
  return session.exit(exit.interrupted)
}

function report (session: Session, ending: Ending): void {
  const { out } = session
  const { task, forgotten } = ending
  // a refusal looks the same whether it came with the reply or a moment later
  const refusal = ending.refusal ?? (task.state === 'rejected' ? task.error : undefined)
  const words = refusal !== undefined ? inCommands(refusal.detail) : forgotten === undefined ? outcomeOf(task) : remainsOf(task, forgotten.copy)
  if (session.json) out.record(forgotten === undefined ? refusal ?? task : { code: 'task-forgotten', detail: words, task, ...forgotten })
  if (refusal !== undefined) session.say(words)
  else if (statusOf(ending) !== exit.done) session.say(paint('red', task.state === 'canceled' ? 'canceled' : 'failed'), `  ${task.id}  ${words}`)
  else if (!session.json) out.line(paint('green', 'done'), `  ${task.id}  ${words}`)
  const warnings = task.result !== undefined && 'warnings' in task.result ? task.result.warnings ?? [] : []
  if (refusal === undefined) for (const warning of warnings) session.say(paint('yellow', 'warning'), `  ${warning}`)
}

function statusOf ({ task: { state, result, error }, refusal, forgotten }: Ending): ExitStatus {
  if (forgotten !== undefined) return forgotten.copy?.state === 'done' ? exit.done : exit.failed
  const problem = refusal ?? error
  if (problem !== undefined) return statusOfProblem(problem)
  const differs = result !== undefined && 'identical' in result && !result.identical
  return state === 'succeeded' && !differs ? exit.done : exit.failed
}
