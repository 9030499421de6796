import { once } from 'node:events'
import { connect, createServer as createSocketServer, type AddressInfo, type Socket } from 'node:net'
import { setImmediate as turn } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { EventSource } from 'undici'
import type { Task } from '../../src/api/task.ts'
import { Client } from '../../src/client/client.ts'
import { Feed } from '../../src/events/feed.ts'
import { eventRoutes } from '../../src/http/events.ts'
import { createServer } from '../../src/http/server.ts'
import { silent } from '../helpers/http-agent.ts'
import { taskOf } from '../helpers/tasks.ts'

t.setTimeout(120_000)

/** What an agent knows in one life of its process, and where it listens. */
class Life {
  readonly tasks = new Map<string, Task>()
  readonly feed: Feed
  readonly instance: string
  readonly #app
  constructor (instance: string) {
    this.instance = instance
    this.feed = new Feed({ instance, history: 100_000, snapshot: () => this.tasks.values(), closeMs: 50 })
    this.#app = createServer({ log: silent, instance, allowedHosts: [], maxBodyBytes: 1024 })
    eventRoutes(this.#app, { feed: this.feed, tasks: { find: id => this.tasks.get(id) } })
  }

  async begin (): Promise<number> {
    await this.#app.listen({ host: '127.0.0.1', port: 0 })
    return (this.#app.server.address() as AddressInfo).port
  }

  move (id: string, state: Task['state'] = 'running'): void {
    const task = taskOf({ id, instance: this.instance, runId: `${this.instance} ${id}`, state, revision: (this.tasks.get(id)?.revision ?? -1) + 1 })
    this.tasks.set(id, task)
    this.feed.transition(task)
  }

  async end (): Promise<void> { await this.#app.close() }
}

/** A line that breaks after a random number of bytes, in the middle of whatever it carries then. */
async function breakingLine (t: Test, target: () => number): Promise<{ port: number, breaks: () => number, hold: () => void }> {
  let breaks = 0
  let holds = false
  const open = new Set<Socket>()
  const line = createSocketServer(near => {
    const far = connect(target(), '127.0.0.1')
    let left = Math.floor(Math.random() * 6000)
    let first = true
    for (const socket of [near, far]) {
      open.add(socket)
      socket.on('error', () => { /* the agent is being restarted */ })
      socket.on('close', () => { open.delete(socket); near.destroy(); far.destroy() })
    }
    near.pipe(far)
    far.on('data', part => {
      // as long as it was, but the client is not to wait for seconds a thousand times
      const bytes = first ? Buffer.from(part.toString('latin1').replace(/retry: \d{4}/, 'retry: 0004'), 'latin1') : part
      first = false
      if (holds || bytes.length <= left) {
        left -= bytes.length
        near.write(bytes)
        return
      }
      breaks++
      // a reset would take back what was delivered before
      near.end(bytes.subarray(0, left), () => { near.destroy() })
      far.destroy()
    })
  }).listen(0, '127.0.0.1')
  await once(line, 'listening')
  t.teardown(() => { line.close(); for (const socket of open) socket.destroy() })
  return { port: (line.address() as AddressInfo).port, breaks: () => breaks, hold: () => { holds = true } }
}

/** What a follower of events believes: wrong about nothing, or it says where it went wrong. */
class Model {
  readonly revisions = new Map<string, number>()
  readonly mistakes: string[] = []
  readonly instances = new Set<string>()
  #complete = false

  /** A snapshot begins. */
  forget (): void {
    this.revisions.clear()
    this.#complete = false
  }

  take (event: string | undefined, task: Task): void {
    if (event === 'reset') this.forget()
    if (event === 'synced') this.#complete = true
    if (event !== 'task') return
    const { instance, runId, revision } = task
    this.instances.add(instance)
    const before = this.revisions.get(runId) ?? (this.#complete ? -1 : revision - 1)
    if (revision !== before + 1) this.mistakes.push(`${runId} went from revision ${before} to ${revision}`)
    this.revisions.set(runId, revision)
  }
}

type Follow = (t: Test, port: number, last: string) => Promise<Model>

/** Follows with the client until the last task of the last life. */
const withClient: Follow = async (t, port, last) => {
  const client = new Client({ url: `http://127.0.0.1:${port}` })
  t.teardown(async () => { await client.close() })
  const model = new Model()
  let cursor: string | undefined
  // who has no cursor begins anew
  const onLost = () => { if (cursor === undefined) model.forget() }
  for await (const frame of client.events({ onLost })) {
    if ('id' in frame && frame.id !== undefined) cursor = frame.id
    if (frame.event === 'reset') cursor = undefined
    model.take(frame.event, frame.data as Task)
    if (frame.event === 'task' && frame.data.runId === last) break
  }
  return model
}

/** Follows with nothing but an EventSource, which connects again by itself. */
const withEventSource: Follow = async (t, port, last) => {
  const source = new EventSource(`http://127.0.0.1:${port}/events`)
  t.teardown(() => { source.close() })
  const model = new Model()
  let cursor = ''
  source.addEventListener('open', () => { if (cursor === '') model.forget() })
  await new Promise<void>((resolve, reject) => {
    source.addEventListener('error', () => { if (source.readyState === EventSource.CLOSED) reject(new Error('the EventSource has given up')) })
    for (const event of ['reset', 'task', 'synced']) {
      source.addEventListener(event, message => {
        const { data, lastEventId } = message as MessageEvent
        cursor = lastEventId
        const task = JSON.parse(data) as Task
        model.take(event, task)
        if (task.runId === last) resolve()
      })
    }
  })
  return model
}

t.test('client and EventSource get through a thousand broken lines each and two restarts without losing or repeating a transition', async t => {
  let life = new Life('first')
  let port = await life.begin()
  t.teardown(async () => { await life.end() })
  const lines = await Promise.all([withClient, withEventSource].map(async follow => {
    const line = await breakingLine(t, () => port)
    return { ...line, followers: Array.from({ length: 20 }, async () => await follow(t, line.port, 'third last')) }
  }))
  for (const [next, until] of [['second', 350], ['third', 700], [undefined, 1000]] as const) {
    while (lines.some(({ breaks }) => breaks() < until)) {
      life.move(`t${Math.floor(Math.random() * 20)}`)
      for (let n = 0; n < 5; n++) await turn()
    }
    if (next === undefined) break
    const old = life
    life = new Life(next)
    port = await life.begin()
    await old.end()
  }
  for (const { hold } of lines) hold()
  life.move('last', 'succeeded')
  const truth = [...life.tasks.values()].map(({ runId, revision }) => `${runId} ${revision}`).sort()
  for (const { mistakes, revisions, instances } of await Promise.all(lines.flatMap(({ followers }) => followers))) {
    t.same(mistakes, [])
    t.same([...revisions].map(([runId, revision]) => `${runId} ${revision}`).sort(), truth)
    t.ok(instances.has('third'))
  }
  for (const { breaks } of lines) t.ok(breaks() >= 1000, `the line broke ${breaks()} times`)
})
