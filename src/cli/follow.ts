import { setTimeout as sleep } from 'node:timers/promises'
import type { Client } from '../client/client.ts'
import { ProblemError, UnreachableError } from '../client/errors.ts'
import type { Copy, Problem, Task } from '../client/types.ts'
import { inCommands } from './glossary.ts'
import { targetOf } from './words.ts'

/** How the following of a task ended: it finished, could not be sent again, or was forgotten, and then the storage tells. */
export interface Ending {
  task: Task
  refusal?: Problem
  forgotten?: { copy?: Copy }
}

export interface Follower {
  client: Client
  /** For how long an agent that is gone is tried again. */
  patienceMs: number
  /** Send the command again when the agent was restarted: for commands that then go on where they were. */
  resend: boolean
  onTask (task: Task): void
  onNote (text: string): void
  onEnd (ending: Ending): void
  /** The agent goes on with the copy under a task of its own, which is followed instead. */
  onContinued (task: Task, by: Task): void
}

/**
 * Follows tasks to their ends, across lost connections and restarts of the agent. Throws UnreachableError when the agent
 * stays away for longer than the follower is patient.
 */
export async function follow (tasks: readonly Task[], follower: Follower): Promise<void> {
  const { client, patienceMs, resend, onTask, onNote, onEnd, onContinued } = follower
  /** Of tasks that have taken the place of others. */
  const continued: Array<Promise<void>> = []
  const open = new Map<string, Task>()
  /** Those that the agent has told of since it last began anew. */
  const seen = new Set<string>()
  const patience = new Patience(patienceMs, onNote)

  const end = (ending: Ending) => {
    open.delete(ending.task.id)
    onEnd(ending)
  }
  const learn = (task: Task) => {
    open.set(task.id, task)
    if (task.endedAt === undefined) onTask(task)
    else end({ task })
  }
  const goOnWithSuccessor = async (task: Task): Promise<boolean> => {
    const successor = await patience.insist(async () => await successorOf(client, task))
    if (successor === undefined) return false
    open.delete(task.id)
    onNote(`Task ${successor.id} goes on with it.`)
    onContinued(task, successor)
    const following = follow([successor], follower)
    continued.push(following)
    // what it throws is thrown at the end, when the others have ended
    following.catch(() => {})
    return true
  }
  const missed = async (task: Task, instance: string) => {
    if (task.instance !== instance) onNote('The agent was restarted: its tasks are forgotten, images are not.')
    if (!resend) {
      if (await goOnWithSuccessor(task)) return
      return end({ task, forgotten: await patience.insist(async () => await recordOf(client, task)) })
    }
    try {
      const again = await patience.insist(async () => await client.putTask(task.id, task.spec))
      seen.add(task.id)
      onNote(`The command was sent again as ${task.id}: it goes on where it was.`)
      learn(again.task)
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error
      if (error.code === 'resource-busy' && await goOnWithSuccessor(task)) return
      // the copy may have been completed with nobody to tell
      const record = await patience.insist(async () => await recordOf(client, task))
      end(record.copy?.state === 'done' ? { task, forgotten: record } : { task, refusal: error.problem })
    }
  }

  for (const task of tasks) learn(task)
  if (open.size === 0) return
  const idPrefix = commonPrefix([...open.keys()])
  for await (const { event, data } of client.events({ type: ['task', 'progress'], idPrefix, signal: patience.signal, onLost: error => { patience.lose(error) } })) {
    if (event !== 'bye' && event !== 'busy') patience.regain()
    const task = event === 'task' || event === 'progress' ? open.get(data.id) : undefined
    if (event === 'reset') seen.clear()
    else if (event === 'synced') {
      for (const unseen of [...open.values()].filter(({ id }) => !seen.has(id))) await missed(unseen, data.instance)
    } else if (event === 'task' && data.runId === task?.runId) {
      seen.add(data.id)
      if (data.revision >= task.revision) learn(data)
    } else if (event === 'progress' && data.runId === task?.runId && data.revision >= task.revision) {
      learn({ ...task, progress: data.progress })
    }
    if (open.size === 0) break
  }
  if (open.size > 0) patience.check()
  await Promise.all(continued)
}

/** The task that writes the same image now: an agent that continues by itself what it was copying is quicker than we are. */
async function successorOf (client: Client, { spec }: Task): Promise<Task | undefined> {
  const target = targetOf(spec)
  if (target === undefined) return undefined
  const { items } = await client.listTasks({ state: ['active'], kind: ['storage.copyImage', 'storage.mendImage'], limit: 1000 })
  return items.find(task => {
    const its = targetOf(task.spec)
    return its?.domain === target.domain && its.image === target.image && its.volume === target.volume
  })
}

/** Waits for an agent that is gone, and says so; but not for ever. */
export class Patience {
  readonly #patienceMs: number
  readonly #onNote: (text: string) => void
  readonly #end = new AbortController()
  #lostAt: number | undefined
  #error: ProblemError | UnreachableError | undefined

  constructor (patienceMs: number, onNote: (text: string) => void) {
    this.#patienceMs = patienceMs
    this.#onNote = onNote
  }

  /** Aborted when it has come to its end. */
  get signal (): AbortSignal { return this.#end.signal }

  lose (error: ProblemError | UnreachableError): void {
    this.#error = error
    if (this.#lostAt === undefined) this.#onNote(error instanceof ProblemError ? `${inCommands(error.message)} Trying again.` : 'The connection to the agent is lost; trying again.')
    this.#lostAt ??= performance.now()
    if (performance.now() - this.#lostAt >= this.#patienceMs) this.#end.abort()
  }

  regain (): void {
    if (this.#lostAt !== undefined) this.#onNote('The agent is there again.')
    this.#lostAt = undefined
  }

  /** Throws what was last in the way when it has come to its end. */
  check (): void {
    if (this.#end.signal.aborted) throw this.#error
  }

  /** Tries something until the agent answers; an agent that has just started may need a moment for its domains. */
  async insist<T> (attempt: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        const result = await attempt()
        this.regain()
        return result
      } catch (error) {
        if (!(error instanceof UnreachableError) && !(error instanceof ProblemError && error.status === 503)) throw error
        this.lose(error)
        this.check()
      }
      await sleep(500 + Math.random() * 500)
    }
  }
}

/** The durable answer about a copy. */
async function recordOf (client: Client, { id, spec }: Task): Promise<{ copy?: Copy }> {
  const target = targetOf(spec)
  if (target === undefined) return {}
  const copy = (await client.copies(target.domain, { taskId: id })).find(({ image }) => image === target.image)
  return copy === undefined ? {} : { copy }
}

function commonPrefix ([first = '', ...others]: readonly string[]): string {
  let length = first.length
  while (!others.every(other => other.startsWith(first.slice(0, length)))) length--
  return first.slice(0, length)
}
