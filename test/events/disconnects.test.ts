import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { setImmediate as turn } from 'node:timers/promises'
import type { Task } from '../../src/api/task.ts'
import { Feed } from '../../src/events/feed.ts'
import { Subscriber, type Address, type Frame } from '../helpers/subscriber.ts'
import { taskOf } from '../helpers/tasks.ts'

type Random = (below: number) => number

/** A generator that gives the same numbers for the same seed (mulberry32). */
function randomOf (seed: number): Random {
  let state = seed
  return below => {
    state = (state + 0x6D2B79F5) | 0
    let bits = Math.imul(state ^ (state >>> 15), 1 | state)
    bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits
    return ((bits ^ (bits >>> 14)) >>> 0) % below
  }
}

/** What an EventSource with a model behind it knows. It is wrong about nothing, or says where it went wrong. */
class Follower {
  readonly revisions = new Map<string, number>()
  readonly mistakes: string[] = []
  lastEventId: string | undefined
  resets = 0
  #complete = false

  /** Connects and reads so many frames, or until it holds; then the connection is cut wherever it is. */
  async connect (address: Address, frames: number, holds: (frame: Frame) => boolean = () => false): Promise<void> {
    if (this.lastEventId === undefined) this.#forget()
    const subscriber = new Subscriber(address, '/', this.lastEventId === undefined ? {} : { 'last-event-id': this.lastEventId })
    let left = frames
    subscriber.onFrame(frame => {
      if (left <= 0) return
      this.#take(frame)
      if (--left === 0 || holds(frame)) {
        left = 0
        subscriber.close()
      }
    })
    if (left === 0) subscriber.close()
    await subscriber.ended
  }

  #forget (): void {
    this.revisions.clear()
    this.#complete = false
  }

  #take ({ event, data, id }: Frame): void {
    if (id !== undefined) this.lastEventId = id
    if (event === 'reset') {
      this.resets++
      this.#forget()
    }
    if (event === 'synced') this.#complete = true
    if (event !== 'task') return
    const { runId, revision } = data as unknown as Task
    const before = this.revisions.get(runId) ?? (this.#complete ? -1 : revision - 1)
    if (revision !== before + 1) this.mistakes.push(`${runId} went from revision ${before} to ${revision} at ${id ?? 'the snapshot'}`)
    this.revisions.set(runId, revision)
  }
}

/** Between two connections up to `away` events happen. */
async function survive (t: Test, disconnects: number, history: number, away: number): Promise<{ resets: number }> {
  const seed = Date.now() | 0
  t.comment(`seed ${seed}`)
  const random = randomOf(seed)
  const tasks = new Map<string, Task>()
  const feed = new Feed({ instance: 'here', history, snapshot: () => tasks.values() })
  const server = createServer(({ headers }, response) => {
    feed.listen({ response, headers: {}, address: undefined, start: feed.locate(headers['last-event-id']?.toString()) }, {})
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = { host: '127.0.0.1', port: (server.address() as AddressInfo).port }
  const move = (id: string, state: Task['state']) => {
    const task = taskOf({ id, state, revision: (tasks.get(id)?.revision ?? -1) + 1 })
    tasks.set(id, task)
    feed.transition(task)
  }

  let left = disconnects
  const followers = Array.from({ length: 10 }, () => new Follower())
  const travelling = new Set(followers)
  const journeys = followers.map(async follower => {
    for (; left > 0; left--) {
      await follower.connect(address, random(60))
      for (const back = feed.events + random(away); feed.events < back;) await turn()
    }
    travelling.delete(follower)
    await follower.connect(address, Infinity, ({ data }) => data?.['id'] === 'last')
  })
  while (travelling.size > 0) {
    for (let n = random(4); n > 0; n--) move(`t${random(200)}`, 'running')
    await turn()
  }
  move('last', 'succeeded')
  await Promise.all(journeys)

  const truth = [...tasks.values()].map(({ runId, revision }) => `${runId} ${revision}`).sort()
  for (const { revisions, mistakes } of followers) {
    t.same(mistakes, [])
    t.same([...revisions].map(([runId, revision]) => `${runId} ${revision}`).sort(), truth)
  }
  while (feed.subscribers > 0) await turn()
  t.ok(feed.opened > disconnects / 2, `${feed.opened} streams were opened`)
  await feed.close()
  server.close()
  await once(server, 'close')
  return { resets: followers.reduce((sum, { resets }) => sum + resets, 0) }
}

t.test('a thousand random disconnects lose nothing and repeat nothing', async t => {
  const { resets } = await survive(t, 1000, 100_000, 10)
  t.equal(resets, 0)
})

t.test('nor do they when more has happened than is remembered: then everybody who missed something is told so', async t => {
  const { resets } = await survive(t, 300, 40, 80)
  t.ok(resets > 0, `${resets} resets`)
})
