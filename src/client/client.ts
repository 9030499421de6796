import { followEvents, type FollowOptions } from './events.ts'
import { ProblemError } from './errors.ts'
import { Transport, type Reply, type Shape, type TransportOptions } from './transport.ts'
import type { Agent, AgentEvent, BrokenImage, Caller, ConfigurationStatus, Copy, DomainStatus, ImageEntry, ImageStatus, ListQuery, Operation, OperationList, OperationQuery, Preview, Task, TaskList, TaskSpec } from './types.ts'

export interface PutOptions {
  /** The ETag of a finished task whose id is to be used again; `*` takes whatever finished task has it. */
  ifMatch?: string
  /** `*`: only if no task has the id. */
  ifNoneMatch?: '*'
  /** Only if the agent is still this instance. */
  instance?: string
  /** Seconds to wait for the accept step; the agent's default is 2. */
  waitSeconds?: number
  signal?: AbortSignal
}

/** A task and the tag that names it in preconditions. */
export interface TaggedTask {
  task: Task
  etag: string
  /** It was there before: joined, or its stored result. */
  replayed: boolean
}

const longPollSeconds = 30

const aTask: Shape = { id: 'string', runId: 'string', state: 'string', spec: 'object' }
const aList: Shape = { items: 'array' }

/**
 * A client of one agent. Every method throws ProblemError for what the agent refuses, and UnreachableError when it
 * cannot be reached for as long as the client tries.
 */
export class Client {
  readonly #transport: Transport

  constructor (options: TransportOptions) {
    this.#transport = new Transport(options)
  }

  /** Creates a task or claims the one that has this id. It is sent again when its reply is lost, and executed once. */
  async putTask (id: string, spec: TaskSpec, { ifMatch, ifNoneMatch, instance, waitSeconds, signal }: PutOptions = {}): Promise<TaggedTask> {
    const tag = ifMatch === '*' ? await this.#latestTag(id, signal) : ifMatch
    const headers = {
      'if-match': tag,
      'if-none-match': ifNoneMatch,
      'agent-instance': instance,
      ...(waitSeconds !== undefined && { prefer: `wait=${waitSeconds}` })
    }
    try {
      return tagged(await this.#transport.send<Task>(taskPath(id), { method: 'PUT', body: spec, headers, signal, patienceMs: (waitSeconds ?? 2) * 1000, expected: aTask }))
    } catch (error) {
      const own = tag === undefined ? undefined : ownRun(error, tag)
      if (own === undefined) throw error
      return { task: own, etag: etagOf(own), replayed: true }
    }
  }

  /** The run that `*` stands for now. Sent again with it, a PUT whose reply was lost finds its own run; with `*` it would take over that one, too. */
  async #latestTag (id: string, signal: AbortSignal | undefined): Promise<string> {
    try {
      return (await this.getTask(id, signal === undefined ? {} : { signal })).etag
    } catch (error) {
      if (error instanceof ProblemError && error.code === 'task-not-found') return '*'
      throw error
    }
  }

  /** What `putTask` would answer; nothing is recorded or changed. */
  async previewTask (id: string, spec: TaskSpec, { signal }: { signal?: AbortSignal } = {}): Promise<Preview> {
    return (await this.#transport.send<Preview>(taskPath(id), { method: 'PUT', query: { dryRun: true }, body: spec, signal })).body
  }

  async getTask (id: string, { signal }: { signal?: AbortSignal } = {}): Promise<TaggedTask> {
    return tagged(await this.#transport.send<Task>(taskPath(id), { signal, expected: aTask }))
  }

  /**
   * Waits until the task has finished. Throws ProblemError `task-not-found` when the agent was restarted in between: the
   * image tells how far the task came, and the same PUT continues it.
   */
  async waitForTask (id: string, { signal }: { signal?: AbortSignal } = {}): Promise<Task> {
    for (;;) {
      const { body } = await this.#transport.send<Task>(taskPath(id), { signal, headers: { prefer: `wait=${longPollSeconds}` }, patienceMs: longPollSeconds * 1000, expected: aTask })
      if (body.endedAt !== undefined) return body
    }
  }

  /** Asks a task to stop; of a finished one, nothing happens. With `runId`, another run is left alone. */
  async cancelTask (id: string, { runId, signal }: { runId?: string, signal?: AbortSignal } = {}): Promise<Task> {
    return (await this.#transport.send<Task>(taskPath(id), { method: 'DELETE', query: { runId }, signal, expected: aTask })).body
  }

  /** Changes the bandwidth of a running copy, in bytes per second; null lifts the limit. */
  async tuneTask (id: string, bandwidth: number | null, { runId, signal }: { runId?: string, signal?: AbortSignal } = {}): Promise<Task> {
    return (await this.#transport.send<Task>(taskPath(id), { method: 'PATCH', query: { runId }, body: { bandwidth }, signal, expected: aTask })).body
  }

  /** One page of tasks. `lastEventId` of the first page is where `events()` continues without a gap. */
  async listTasks (query: ListQuery = {}, { signal }: { signal?: AbortSignal } = {}): Promise<TaskList> {
    return (await this.#transport.send<TaskList>('/tasks', { query, signal, expected: aList })).body
  }

  async agent (): Promise<Agent> {
    return (await this.#transport.send<Agent>('/agent', { expected: { hostId: 'string', instance: 'string', kinds: 'array', limits: 'object' } })).body
  }

  /** Has the agent read its configuration again. Throws ProblemError `reload-failed` when something is wrong with it. */
  async reload (): Promise<ConfigurationStatus> {
    return (await this.#transport.send<ConfigurationStatus>('/agent/reload', { method: 'POST', expected: { state: 'string' } })).body
  }

  /** Who one is to the agent, and what one may do. */
  async caller (): Promise<Caller> {
    return (await this.#transport.send<Caller>('/agent/caller', { expected: { who: 'string', scope: 'string' } })).body
  }

  async domains (): Promise<DomainStatus[]> {
    return (await this.#transport.send<{ items: DomainStatus[] }>('/domains', { expected: aList })).body.items
  }

  /** Every image of a domain, page by page. */
  async * images (domain: string): AsyncGenerator<ImageEntry> {
    yield * this.#pages<ImageEntry>(`${domainPath(domain)}/images`)
  }

  /** The status of an image, from the storage alone. */
  async imageStatus (domain: string, image: string, { format }: { format?: 'raw' | 'qcow2' } = {}): Promise<ImageStatus> {
    return (await this.#transport.send<ImageStatus>(`${domainPath(domain)}/images/${encodeURIComponent(image)}`, { query: { format }, expected: { state: 'string', fixes: 'array' } })).body
  }

  /** The copy records of a domain; with a task id, the durable answer to "did it finish?". */
  async copies (domain: string, { taskId, state }: { taskId?: string, state?: Copy['state'] } = {}): Promise<Copy[]> {
    return await collect(this.#pages<Copy>(`${domainPath(domain)}/copies`, { taskId, state }))
  }

  /** What is broken in a domain, and the task that helps. */
  async fixes (domain: string): Promise<BrokenImage[]> {
    return await collect(this.#pages<BrokenImage>(`${domainPath(domain)}/fixes`))
  }

  /** The rebalances and brick removals of the cluster that this host belongs to, or some of them. */
  async operations (filter: OperationQuery = {}): Promise<OperationList> {
    const query = { volume: filter.volume?.join(), state: filter.state?.join(), taskId: filter.taskId?.join() }
    return (await this.#transport.send<OperationList>('/gluster/operations', { query, expected: aList })).body
  }

  /** One of them. */
  async operation (operationId: string): Promise<Operation> {
    return (await this.#transport.send<Operation>(operationPath(operationId), { expected: { state: 'string', nodes: 'array' } })).body
  }

  /** Changes how hard it works. */
  async tuneOperation (operationId: string, body: { throttle: NonNullable<Operation['throttle']> }): Promise<Operation> {
    return (await this.#transport.send<Operation>(operationPath(operationId), { method: 'PATCH', body, expected: { state: 'string', nodes: 'array' } })).body
  }

  /**
   * Follows what happens, across lost connections and restarts of the agent. Ends when the signal is aborted or the
   * client is closed. A `reset` says that something may have been missed: what the caller knows is void, and all that
   * still holds follows.
   */
  events (options: FollowOptions = {}): AsyncGenerator<AgentEvent> {
    return followEvents(this.#transport, options)
  }

  /** Ends every connection, and what still waits for an answer: with UnreachableError. */
  async close (): Promise<void> {
    await this.#transport.close()
  }

  async * #pages<T> (path: string, filters: Record<string, string | undefined> = {}): AsyncGenerator<T> {
    let cursor: string | undefined
    do {
      const { body }: Reply<{ items: T[], next?: string }> = await this.#transport.send(path, {
        query: { ...filters, cursor, limit: 1000 },
        expected: aList
      })
      yield * body.items
      cursor = body.next
    } while (cursor !== undefined)
  }
}

async function collect<T> (items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

function operationPath (operationId: string): string {
  return `/gluster/operations/${encodeURIComponent(operationId)}`
}

function taskPath (id: string): string {
  return `/tasks/${encodeURIComponent(id)}`
}

function domainPath (domain: string): string {
  return `/domains/${encodeURIComponent(domain)}`
}

function etagOf ({ instance, runId, revision, tick }: Task): string {
  return `"${instance}.${runId}.${revision}.${tick}"`
}

function tagged ({ body, headers }: Reply<Task>): TaggedTask {
  return { task: body, etag: String(headers['etag'] ?? etagOf(body)), replayed: headers['idempotent-replayed'] === 'true' }
}

/** The run that an earlier try of the same PUT has made: it says whose id it took over. */
function ownRun (error: unknown, ifMatch: string): Task | undefined {
  if (!(error instanceof ProblemError) || error.code !== 'precondition-failed') return undefined
  const task = error.problem['task'] as Task | undefined
  return task?.replaces === ifMatch ? task : undefined
}
