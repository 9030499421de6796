import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { Value } from '@sinclair/typebox/value'
import type { FastifyBaseLogger } from 'fastify'
import { pino } from 'pino'
import type { Test } from 'tap'
import { CopyImage, kinds, type TaskResult, type TaskSpec } from '../../src/api/kinds.ts'
import type { Progress, Task } from '../../src/api/task.ts'
import { addSchemas } from '../../src/http/schemas.ts'
import { createServer, type ServerOptions } from '../../src/http/server.ts'
import { Standing } from '../../src/http/standing.ts'
import { taskRoutes } from '../../src/http/tasks.ts'
import type { App } from '../../src/http/types.ts'
import type { KindDefinition, TaskContext } from '../../src/tasks/kind.ts'
import { TaskRegistry, type KindTable, type RegistryOptions } from '../../src/tasks/registry.ts'
import { HttpClient } from './http-client.ts'

export const silent: FastifyBaseLogger = pino({ level: 'silent' })

/** A copy between two images of the domain `local`, with every default as the agent itself fills it in. */
export function copyOf (source: string, target: string, more: { bandwidth?: number, verify?: boolean } = {}): TaskSpec {
  const spec = { kind: 'storage.copyImage', source: { domain: 'local', image: source }, target: { domain: 'local', image: target }, ...more }
  return Value.Parse(CopyImage, spec)
}

/** The deletion of an image: a kind that can be neither canceled nor tuned. */
export function deletionOf (image: string): TaskSpec {
  return { kind: 'storage.deleteImage', domain: 'local', image }
}

/** A task body that does what the test tells it to, when it tells it. */
export class Body {
  readonly spec: TaskSpec
  readonly context: TaskContext
  readonly bandwidths: Array<number | null> = []
  readonly done: Promise<TaskResult>
  #resolve!: (result: TaskResult) => void
  #reject!: (error: unknown) => void

  constructor (spec: TaskSpec, context: TaskContext) {
    this.spec = spec
    this.context = context
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    context.onTuning(({ bandwidth }) => { this.bandwidths.push(bandwidth) })
  }

  get id (): string { return this.context.id }
  accept (): void { this.context.accepted() }
  progress (progress: Partial<Progress>): void { this.context.progress({ phase: 'copying', ...progress }) }

  async succeed (result: TaskResult = { domain: 'local', image: 'b.raw' }): Promise<void> {
    this.#resolve(result)
    await turn()
  }

  async fail (error: unknown): Promise<void> {
    this.#reject(error)
    await turn()
  }

  /** Stops as a body does that was canceled. */
  async yield (): Promise<void> {
    await this.fail(this.context.signal.reason)
  }

  /** Resolves when the body is told to stop. */
  async aborted (): Promise<void> {
    if (!this.context.signal.aborted) await once(this.context.signal, 'abort')
  }
}

/** The bodies that were started, in order. */
export class Bodies {
  readonly all: Body[] = []
  /** Given a body the moment it starts; for bodies that need nobody to tell them what to do. */
  script: ((body: Body) => void) | undefined
  #wake: Array<() => void> = []

  async run (spec: TaskSpec, context: TaskContext): Promise<TaskResult> {
    const body = new Body(spec, context)
    this.all.push(body)
    this.script?.(body)
    for (const wake of this.#wake.splice(0)) wake()
    return await body.done
  }

  /** The nth body of a task, counting from 1, as soon as it has started. */
  async of (id: string, nth = 1): Promise<Body> {
    for (;;) {
      const body = this.all.filter(body => body.id === id)[nth - 1]
      if (body !== undefined) return body
      await new Promise<void>(resolve => { this.#wake.push(resolve) })
    }
  }
}

/** Lets everything happen that waits for nothing but its turn. */
export async function turn (): Promise<void> {
  await new Promise(resolve => { setImmediate(resolve) })
}

/** Resolves when a condition holds that nothing tells of. */
export async function until (holds: () => boolean): Promise<void> {
  while (!holds()) await turn()
}

export interface AgentOptions extends Partial<Omit<RegistryOptions, 'kinds'>> {
  /** Changes what every kind does. */
  definition?: Partial<KindDefinition<TaskSpec, TaskResult>>
  server?: Partial<ServerOptions>
}

/** What happened to tasks, as the observer of the registry was told. */
export interface Told {
  what: 'transition' | 'progress' | 'forgotten'
  task: Task
}

export interface Registered {
  registry: TaskRegistry
  bodies: Bodies
  told: Told[]
}

/** The real registry, with bodies that the test controls. */
export function makeRegistry (t: Test, { definition, server: _, ...options }: AgentOptions = {}): Registered {
  const bodies = new Bodies()
  const told: Told[] = []
  const tell = (what: Told['what']) => (task: Task) => { told.push({ what, task }) }
  const table = Object.fromEntries(kinds.map(kind => [kind, {
    cancelable: kind === 'storage.copyImage' || kind === 'storage.mendImage',
    tunable: kind === 'storage.copyImage' || kind === 'storage.mendImage',
    ...(kind === 'storage.copyImage' && { queue: 'copy' }),
    check: () => {},
    uses,
    run: async (spec: TaskSpec, context: TaskContext) => await bodies.run(spec, context),
    ...definition
  } satisfies KindDefinition<TaskSpec, TaskResult>]))
  const registry = new TaskRegistry({
    // every kind has the same definition, whatever the table asks of each
    kinds: table as unknown as KindTable,
    instance: 'feedfacecafe',
    observer: { transition: tell('transition'), progress: tell('progress'), forgotten: tell('forgotten') },
    log: silent,
    retentionMs: 900_000,
    maxActive: 1000,
    maxRetained: 100_000,
    acceptDeadlineMs: 600_000,
    queues: { copy: 100 },
    ...options
  })
  // a body nobody has ended would keep the deadline's timer, and the test's process with it
  t.teardown(async () => {
    registry.stop()
    for (const body of bodies.all) await body.succeed()
  })
  return { registry, bodies, told }
}

function uses (spec: TaskSpec): { shared: string[], exclusive: string[] } {
  if ('target' in spec) return { shared: [`local/${spec.source.image}`], exclusive: [`local/${spec.target.image}`] }
  if ('image' in spec) return { shared: [], exclusive: [`local/${spec.image}`] }
  return { shared: [], exclusive: ['volume'] }
}

export interface TestAgent extends Registered {
  app: App
  port: number
  client: HttpClient
  /** Of an agent whose server has credentials. */
  standing: Standing | undefined
  /** Ends the server as a stop of the agent does. */
  stop (): Promise<void>
}

/** The real registry behind the real server, on a port of its own. */
export async function startAgent (t: Test, options: AgentOptions = {}): Promise<TestAgent> {
  const registered = makeRegistry(t, options)
  const { registry, told } = registered
  const app = createServer({ log: silent, instance: registry.instance, allowedHosts: [], maxBodyBytes: 64 * 1024, ...options.server })
  const credentials = options.server?.credentials
  const standing = credentials === undefined ? undefined : new Standing(credentials, silent)
  addSchemas(app)
  taskRoutes(app, { registry, startedAt: '2026-01-01T00:00:00.000Z', lastEventId: () => `${registry.instance}-${told.length}`, ...standing !== undefined && { standing } })
  app.addHook('preClose', async () => { registry.stop() })
  await app.listen({ host: '127.0.0.1', port: 0 })
  const { port } = app.server.address() as AddressInfo
  const client = new HttpClient({ host: '127.0.0.1', port })
  t.teardown(async () => {
    await app.close()
    client.close()
  })
  return { ...registered, app, port, client, standing, stop: async () => { await app.close() } }
}
