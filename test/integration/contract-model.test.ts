import { getEventListeners } from 'node:events'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import type { TaskState } from '../../src/api/task.ts'
import { AppError } from '../../src/errors.ts'
import { parseTag } from '../../src/tasks/etag.ts'
import { Clock } from '../helpers/clock.ts'
import { copyOf, deletionOf, startAgent, turn, type Body, type TestAgent } from '../helpers/http-agent.ts'
import type { Reply } from '../helpers/http-client.ts'

/*
 * Several clients send whatever they like, bodies do what they like, time passes, the agent is restarted: in every order
 * that fast-check thinks of, the agent answers as the small model of the contract below says.
 */

t.setTimeout(300_000)

const ids = ['a', 'b', 'c'] as const
const commands = [copyOf('s', 'x'), copyOf('s', 'y'), copyOf('s', 'x', { bandwidth: 7 }), deletionOf('y'), copyOf('s', 'z')]
const targets = ['x', 'y', 'x', 'y', 'z']
const isCancelable = (command: number) => command !== 3
const retentionMs = 1000
const maxActive = 2
const longest = 60

const preconditions = ['none', 'none', 'If-None-Match: *', 'If-None-Match: *', 'If-Match: *', 'If-Match: seen', 'If-Match: list', 'Agent-Instance: seen'] as const
type Precondition = typeof preconditions[number]
const namings = ['none', 'runId', 'If-Match: seen', 'If-Match: *'] as const
type Naming = typeof namings[number]

// ---- the model

interface ModelRun {
  id: string
  runId: string
  command: number
  state: TaskState
  revision: number
  replaces: string | undefined
  body: Body
  accepted: boolean
}

/** A request that has not been answered yet, and what its answer is to be once the run has changed. */
interface Outstanding {
  run: ModelRun
  is: 'PUT' | 'poll'
  replayed: boolean
  reply: Promise<Reply>
}

interface Client {
  instance: string | undefined
  seen: Map<string, { etag: string, runId: string }>
}

interface Model {
  records: Map<string, ModelRun>
  outstanding: Outstanding[]
  clients: Client[]
  expiries: number
}

interface Real {
  agent: TestAgent
  clock: Clock
  restart: () => Promise<void>
  steps: number
  runs: number
  /** Of the present instance. */
  runIds: Set<string>
}

const isFinished = (state: TaskState) => ['succeeded', 'failed', 'canceled', 'rejected'].includes(state)

type Outcome = { is: 'created', replaces: string | undefined } | { is: 'joined' | 'stored', run: ModelRun } | { is: 'refused', status: number, code: string, run?: ModelRun | undefined }

function decide ({ records }: Model, instance: string, id: string, command: number, precondition: Precondition, client: Client): Outcome {
  const run = records.get(id)
  const seen = client.seen.get(id)
  const refused = (status: number, code: string): Outcome => ({ is: 'refused', status, code, run })
  if (precondition === 'Agent-Instance: seen' && client.instance !== instance) return refused(412, 'instance-changed')
  if (precondition === 'If-None-Match: *' && run !== undefined && run.state !== 'rejected') return refused(412, 'precondition-failed')
  let reused = false
  if (precondition.startsWith('If-Match')) {
    if (run === undefined || !isFinished(run.state)) return refused(412, 'precondition-failed')
    const tag = parseTag(seen?.etag ?? '')
    if (precondition !== 'If-Match: *' && !(tag?.instance === instance && tag.runId === run.runId && tag.revision === run.revision)) return refused(412, 'precondition-failed')
    reused = true
  }
  if (run !== undefined && run.state !== 'rejected' && !reused) {
    if (run.command !== command) return refused(409, 'task-id-conflict')
    return { is: isFinished(run.state) ? 'stored' : 'joined', run }
  }
  const active = [...records.values()].filter(({ state }) => !isFinished(state))
  if (active.some(other => targets[other.command] === targets[command])) return { is: 'refused', status: 409, code: 'resource-busy' }
  if (active.length >= maxActive) return { is: 'refused', status: 503, code: 'agent-busy' }
  return { is: 'created', replaces: reused ? 'it' : undefined }
}

// ---- checks

function equal (actual: unknown, expected: unknown, what: string): void {
  if (actual !== expected) throw new Error(`${what}: ${JSON.stringify(actual)} instead of ${JSON.stringify(expected)}`)
}

function remember (client: Client, id: string, { headers, text, status }: Reply): void {
  client.instance = String(headers['agent-instance'])
  const { etag } = headers
  const runId = status === 304 ? undefined : JSON.parse(text || '{}').runId ?? JSON.parse(text || '{}').task?.runId
  if (etag !== undefined && runId !== undefined) client.seen.set(id, { etag, runId })
}

/** Everything that can be seen from outside, by the list. */
async function compare ({ records, outstanding }: Model, { agent, runIds }: Real): Promise<void> {
  const { items } = (await agent.client.get('/tasks')).list
  equal(items.map(({ id }) => id).sort().join(), [...records.keys()].sort().join(), 'the ids that are known')
  for (const { id, runId, state, revision } of items) {
    const run = records.get(id)
    equal(runId, run?.runId, `${id}: run`)
    equal(state, run?.state, `${id}: state`)
    equal(revision, run?.revision, `${id}: revision`)
    runIds.add(runId)
  }
  equal(getEventListeners(agent.registry.stopping, 'abort').length, outstanding.length, 'requests that wait')
  const active = [...records.values()].filter(({ state }) => !isFinished(state)).length
  equal(agent.registry.active, active, 'active tasks')
}

async function eventually (holds: () => boolean, what: string): Promise<void> {
  for (let turns = 0; turns < 10_000; turns++) {
    if (holds()) return
    await turn()
  }
  throw new Error(`never: ${what}`)
}

function hold (model: Model, outstanding: Outstanding): void {
  model.outstanding.push(outstanding)
  // those that are left at the end of a run are cut off, and nobody asks for them
  outstanding.reply.catch(() => {})
}

/** The run has moved: whoever waited for that is answered with it. */
async function settle (model: Model, run: ModelRun): Promise<void> {
  const answered = model.outstanding.filter(outstanding => outstanding.run === run)
  model.outstanding = model.outstanding.filter(outstanding => outstanding.run !== run)
  for (const { is, replayed, reply } of answered) checkSettled(await reply, run, is, replayed)
}

/** A run takes its id, perhaps from a finished one: whoever polled that one is answered with the one that has the id now. */
async function supplant (model: Model, run: ModelRun): Promise<void> {
  const before = model.records.get(run.id)
  const answered = model.outstanding.filter(outstanding => outstanding.run === before)
  model.outstanding = model.outstanding.filter(outstanding => outstanding.run !== before)
  // it is the newest: a Map keeps the place of a key that is set again
  model.records.delete(run.id)
  model.records.set(run.id, run)
  for (const { reply } of answered) {
    const { status, task } = await reply
    equal(status, 200, `a poll of ${run.id}, which was used again`)
    equal(task.runId, run.runId, `a poll of ${run.id}, which was used again: run`)
  }
}

function checkSettled (reply: Reply, run: ModelRun, is: Outstanding['is'], replayed: boolean): void {
  const what = `${is} of ${run.id} that waited`
  equal(reply.headers['idempotent-replayed'], is === 'PUT' && replayed ? 'true' : undefined, `${what}: replayed`)
  if (is === 'PUT' && run.state === 'rejected') {
    equal(reply.status, 507, what)
    equal(reply.problem.code, 'no-space', what)
    return
  }
  equal(reply.status, is === 'PUT' ? 202 : 200, what)
  equal(reply.task.runId, run.runId, `${what}: run`)
  equal(reply.task.state, run.state, `${what}: state`)
}

function move (run: ModelRun, ...states: TaskState[]): void {
  for (const state of states) {
    run.state = state
    run.revision++
  }
}

// ---- what may happen

type Command = fc.AsyncCommand<Model, Real>

/** Counts the step and compares everything after it. */
function step (name: string, run: (model: Model, real: Real) => Promise<void>, check: (model: Readonly<Model>) => boolean = () => true): Command {
  return {
    check,
    run: async (model, real) => {
      real.steps++
      await run(model, real)
      await compare(model, real)
    },
    toString: () => name
  }
}

async function put (model: Model, { agent }: Real, who: number, id: string, command: number, precondition: Precondition, waits: boolean): Promise<void> {
  const client = model.clients[who] as Client
  const { registry, bodies } = agent
  const outcome = decide(model, registry.instance, id, command, precondition, client)
  const existing = registry.find(id)?.etag
  const before = bodies.all.length
  const seen = client.seen.get(id)?.etag ?? '"never.seen.0.0"'
  const reply = agent.client.put(`/tasks/${id}`, commands[command], {
    prefer: waits ? `wait=${longest}` : 'respond-async',
    ...precondition === 'If-None-Match: *' && { 'if-none-match': '*' },
    ...precondition === 'If-Match: *' && { 'if-match': '*' },
    ...precondition === 'If-Match: seen' && { 'if-match': seen },
    ...precondition === 'If-Match: list' && { 'if-match': `"foreign", W/"weak", ${seen}` },
    ...precondition === 'Agent-Instance: seen' && { 'agent-instance': client.instance ?? 'never-seen' }
  })
  let run = outcome.is === 'created' ? undefined : outcome.run
  if (outcome.is === 'created') {
    await eventually(() => bodies.all.length > before, `PUT ${id} begins`)
    run = { id, runId: registry.find(id)?.runId ?? '', command, state: 'pending', revision: 0, replaces: outcome.replaces === undefined ? undefined : existing, body: bodies.all.at(-1) as Body, accepted: false }
    await supplant(model, run)
  }
  if (run?.state === 'pending' && waits && outcome.is !== 'refused') {
    hold(model, { run, is: 'PUT', replayed: outcome.is !== 'created', reply })
    await eventually(() => getEventListeners(registry.stopping, 'abort').length === model.outstanding.length, `PUT ${id} waits`)
    return
  }
  const answer = await reply
  const what = `PUT ${id}, ${precondition}`
  if (outcome.is === 'refused') {
    equal(answer.status, outcome.status, what)
    equal(answer.problem.code, outcome.code, what)
    equal((answer.problem['task'] as { runId?: string } | undefined)?.runId, outcome.run?.runId, `${what}: the record`)
    equal(answer.headers.etag, outcome.run === undefined ? undefined : registry.find(id)?.etag, `${what}: its tag`)
  } else {
    equal(answer.status, outcome.is === 'stored' ? 200 : 202, what)
    equal(answer.headers['idempotent-replayed'], outcome.is === 'created' ? undefined : 'true', `${what}: replayed`)
    equal(answer.task.runId, run?.runId, `${what}: run`)
    equal(answer.task.state, run?.state, `${what}: state`)
    equal(answer.task.replaces, run?.replaces, `${what}: replaces`)
  }
  remember(client, id, answer)
}

const who = fc.nat({ max: 2 })
const id = fc.constantFrom(...ids)

const puts = fc.tuple(who, id, fc.nat({ max: commands.length - 1 }), fc.constantFrom(...preconditions), fc.boolean()).map(([who, id, command, precondition, waits]) =>
  step(`client ${who}: PUT ${id} command ${command}, ${precondition}${waits ? ', waits' : ''}`, async (model, real) => await put(model, real, who, id, command, precondition, waits)))

/** The same PUT from many at once: whoever comes first, one creates and the others join. */
const bursts = fc.tuple(id, fc.nat({ max: commands.length - 1 }), fc.integer({ min: 2, max: 6 })).map(([id, command, many]) =>
  step(`${many} clients at once: PUT ${id} command ${command}`, async (model, real) => {
    const { agent } = real
    const client = model.clients[0] as Client
    const first = decide(model, agent.registry.instance, id, command, 'none', client)
    const before = agent.bodies.all.length
    const replies = await Promise.all(Array.from({ length: many }, async () => await agent.client.put(`/tasks/${id}`, commands[command], { prefer: 'respond-async' })))
    equal(agent.bodies.all.length - before, first.is === 'created' ? 1 : 0, 'executions')
    if (first.is === 'created') {
      await supplant(model, { id, runId: agent.registry.find(id)?.runId ?? '', command, state: 'pending', revision: 0, replaces: undefined, body: agent.bodies.all.at(-1) as Body, accepted: false })
    }
    const run = model.records.get(id)
    for (const reply of replies) {
      equal(reply.status, first.is === 'refused' ? first.status : first.is === 'stored' ? 200 : 202, 'status')
      if (first.is !== 'refused') equal(reply.task.runId, run?.runId, 'run')
    }
    equal(replies.filter(({ headers }) => headers['idempotent-replayed'] === 'true').length, first.is === 'refused' ? 0 : first.is === 'created' ? many - 1 : many, 'replayed')
  }))

const gets = fc.tuple(who, id, fc.constantFrom('none', 'seen', 'poll')).map(([who, id, how]) =>
  step(`client ${who}: GET ${id}${how === 'none' ? '' : `, If-None-Match: seen${how === 'poll' ? ', waits' : ''}`}`, async (model, { agent }) => {
    const client = model.clients[who] as Client
    const run = model.records.get(id)
    const seen = client.seen.get(id)?.etag ?? '"never.seen.0.0"'
    const current = agent.registry.find(id)
    const tag = parseTag(seen)
    const reply = agent.client.get(`/tasks/${id}`, { ...how !== 'none' && { 'if-none-match': seen }, ...how === 'poll' && { prefer: `wait=${longest}` } })
    if (how === 'poll' && run !== undefined && tag?.runId === run.runId && tag.revision === run.revision && tag.instance === agent.registry.instance) {
      hold(model, { run, is: 'poll', replayed: false, reply })
      await eventually(() => getEventListeners(agent.registry.stopping, 'abort').length === model.outstanding.length, `GET ${id} waits`)
      return
    }
    const isSame = how !== 'none' && seen === current?.etag
    const answer = await reply
    equal(answer.status, run === undefined ? 404 : isSame ? 304 : 200, `GET ${id}`)
    if (answer.status === 200) {
      equal(answer.task.runId, run?.runId, 'run')
      equal(answer.task.state, run?.state, 'state')
    }
    remember(client, id, answer)
  }))

function named (naming: Naming, client: Client, id: string): { query: string, headers: Record<string, string> } {
  const seen = client.seen.get(id)
  return {
    query: naming === 'runId' ? `?runId=${seen?.runId ?? 'never-seen'}` : '',
    headers: naming === 'If-Match: *' ? { 'if-match': '*' } : naming === 'If-Match: seen' ? { 'if-match': seen?.etag ?? '"never.seen.0.0"' } : {}
  }
}

/** Whether what the client names is this run, and if it was by a tag, at this revision. */
function names (naming: Naming, client: Client, run: ModelRun, instance: string): { run: boolean, revision: boolean } {
  const seen = client.seen.get(run.id)
  if (naming === 'none' || naming === 'If-Match: *') return { run: true, revision: true }
  if (naming === 'runId') return { run: seen?.runId === run.runId, revision: true }
  const tag = parseTag(seen?.etag ?? '')
  const isRun = tag?.instance === instance && tag.runId === run.runId
  return { run: isRun, revision: isRun && tag.revision === run.revision }
}

const deletes = fc.tuple(who, id, fc.constantFrom(...namings)).map(([who, id, naming]) =>
  step(`client ${who}: DELETE ${id}, ${naming}`, async (model, { agent }) => {
    const client = model.clients[who] as Client
    const run = model.records.get(id)
    const { query, headers } = named(naming, client, id)
    const match = run === undefined ? undefined : names(naming, client, run, agent.registry.instance)
    const answer = await agent.client.delete(`/tasks/${id}${query}`, headers)
    const what = `DELETE ${id}, ${naming}`
    remember(client, id, answer)
    if (run === undefined) return equal(answer.status, 404, what)
    if (match?.run !== true) return equal(answer.status, 412, what)
    if (isFinished(run.state)) {
      if (!naming.startsWith('If-Match')) return equal(answer.status, 200, what)
      if (!match.revision) return equal(answer.status, 412, what)
      equal(answer.status, 204, what)
      model.records.delete(id)
      // who polled it is told that it is gone
      for (const { reply } of model.outstanding.filter(outstanding => outstanding.run === run)) equal((await reply).status, 404, 'a poll of what is forgotten')
      model.outstanding = model.outstanding.filter(outstanding => outstanding.run !== run)
      return
    }
    if (run.state !== 'canceling') {
      if (!isCancelable(run.command)) return equal(answer.status, 409, what)
      move(run, 'canceling')
      await settle(model, run)
    }
    equal(answer.status, 202, what)
    equal(answer.task.state, 'canceling', what)
    equal(run.body.context.signal.aborted, true, `${what}: the body is told`)
  }))

const patches = fc.tuple(who, id, fc.constantFrom(...namings)).map(([who, id, naming]) =>
  step(`client ${who}: PATCH ${id}, ${naming}`, async (model, { agent }) => {
    const client = model.clients[who] as Client
    const run = model.records.get(id)
    const { query, headers } = named(naming, client, id)
    const match = run === undefined ? undefined : names(naming, client, run, agent.registry.instance)
    const before = run?.body.bandwidths.length
    const answer = await agent.client.patch(`/tasks/${id}${query}`, { bandwidth: 5 }, headers)
    remember(client, id, answer)
    const status = run === undefined ? 404 : match?.run !== true ? 412 : isFinished(run.state) || !isCancelable(run.command) ? 409 : 200
    equal(answer.status, status, `PATCH ${id}, ${naming}`)
    equal(run?.body.bandwidths.length, before === undefined ? undefined : before + (status === 200 ? 1 : 0), 'the body is told')
  }))

const happenings = ['accept', 'progress', 'succeed', 'fail', 'refuse', 'refuse', 'yield'] as const
const bodies = fc.tuple(id, fc.constantFrom(...happenings)).map(([id, what]) =>
  step(`the body of ${id}: ${what}`, async model => {
    const run = model.records.get(id)
    if (run === undefined || isFinished(run.state)) return
    const { body } = run
    if (what === 'yield' && run.state !== 'canceling') return
    if (what === 'progress') return body.progress({ bytesDone: 1 })
    if (what === 'accept') {
      body.accept()
      run.accepted = true
      if (run.state !== 'pending') return
      move(run, 'running')
    } else if (what === 'succeed') {
      await body.succeed()
      move(run, ...(run.state === 'pending' ? ['running', 'succeeded'] as const : ['succeeded'] as const))
    } else if (what === 'fail') {
      await body.fail(new AppError('storage-unresponsive', 'Who knows?', { changed: true }))
      move(run, 'failed')
    } else if (what === 'refuse') {
      await body.fail(new AppError('no-space', 'No space.'))
      move(run, run.accepted ? 'failed' : 'rejected')
    } else {
      await body.yield()
      move(run, 'canceled')
    }
    await settle(model, run)
  }))

const expiries = fc.constant(step('time passes: what has finished expires', async (model, { clock }) => {
  model.expiries++
  clock.pass(retentionMs)
  for (const run of [...model.records.values()].filter(({ state }) => isFinished(state))) {
    model.records.delete(run.id)
    for (const { reply } of model.outstanding.filter(outstanding => outstanding.run === run)) equal((await reply).status, 404, 'a poll of what has expired')
    model.outstanding = model.outstanding.filter(outstanding => outstanding.run !== run)
  }
}, ({ expiries }) => expiries < longest - 2))

const restarts = fc.constant(step('the agent is restarted', async (model, real) => {
  await real.restart()
  // whoever waited was answered with the task as it was, by the agent that stopped
  for (const { run, is, replayed, reply } of model.outstanding) {
    const answer = await reply
    if (is === 'poll' && answer.status === 304) continue
    checkSettled(answer, run, is, replayed)
  }
  model.outstanding = []
  model.records.clear()
}))

const anything = fc.commands([puts, puts, puts, bursts, gets, gets, deletes, patches, bodies, bodies, bodies, bodies, expiries, restarts], { maxCommands: 120, size: 'max' })

/** Every run that was ever seen was begun exactly once, and nothing else was. */
function checkExecutions ({ agent, runIds }: Real): void {
  equal(agent.bodies.all.length, runIds.size, 'executions')
}

/** A fresh agent for a run of commands, and the means to restart it. */
async function prepare (t: Test, clock: Clock): Promise<Real> {
  let instances = 0
  const start = async () => await startAgent(t, { instance: `instance${++instances}`, retentionMs, maxActive, queues: {} })
  const real: Real = {
    agent: await start(),
    clock,
    steps: 0,
    runs: 0,
    runIds: new Set(),
    restart: async () => {
      const { bodies, stop } = real.agent
      checkExecutions(real)
      await stop()
      // the process would be gone, and everything in it
      for (const body of bodies.all) await body.succeed()
      real.agent = await start()
      real.runs += real.runIds.size
      real.runIds.clear()
    }
  }
  return real
}

t.test('no interleaving of clients, bodies, time and restarts diverges from the model', async t => {
  const clock = new Clock(t, { atLeastMs: 1000 })
  let steps = 0
  let runs = 0
  await fc.assert(fc.asyncProperty(anything, async commands => {
    let real: Real | undefined
    const sub = new Teardowns()
    try {
      await fc.asyncModelRun(async () => {
        real = await prepare(sub.asTest, clock)
        return {
          model: { records: new Map(), outstanding: [], clients: [0, 1, 2].map(() => ({ instance: undefined, seen: new Map() })), expiries: 0 },
          real
        }
      }, commands)
      if (real !== undefined) checkExecutions(real)
    } finally {
      steps += real?.steps ?? 0
      runs += (real?.runs ?? 0) + (real?.runIds.size ?? 0)
      await sub.run()
    }
  }), { numRuns: 50 })
  t.comment(`${steps} steps, ${runs} runs of tasks`)
  t.ok(steps > 2000, `${steps} steps`)
})

/** What a test leaves to its end, for each of many runs within one test. */
class Teardowns {
  readonly #all: Array<() => unknown> = []
  readonly asTest = { teardown: (run: () => unknown) => { this.#all.unshift(run) } } as unknown as Test

  async run (): Promise<void> {
    for (const teardown of this.#all) await teardown()
  }
}
