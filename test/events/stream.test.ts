import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import { connect, type AddressInfo, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { setImmediate as turn } from 'node:timers/promises'
import { batchBytes } from '../../src/events/channel.ts'
import { Feed, type FeedOptions } from '../../src/events/feed.ts'
import { Subscriber, type Address } from '../helpers/subscriber.ts'
import { taskOf } from '../helpers/tasks.ts'

const kibibyte = 'x'.repeat(1024)

interface Agent {
  feed: Feed
  address: Address
  warnings: string[]
  /** A client that sends its request and then reads nothing until it is told to. With it, the agent's end. */
  stall (): Promise<{ client: Socket, server: Socket }>
  /** An event of about a kibibyte. */
  tell (id: string, revision: number): void
}

/** A path for a socket. Not in the test's own directory: the name of one may have 107 bytes only. */
async function socketPathOf (t: Test): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'events-'))
  t.teardown(async () => { await rm(directory, { recursive: true }) })
  return join(directory, 'socket')
}

/**
 * A feed on a unix socket, where the kernel holds 200 KiB for a reader that does not read; on TCP it would be
 * megabytes, and a stall as long in coming.
 */
async function agentOf (t: Test, options: Partial<FeedOptions> = {}, transport: 'unix' | 'tcp' = 'unix'): Promise<Agent> {
  const warnings: string[] = []
  const feed = new Feed({ instance: 'here', snapshot: () => [], closeMs: 50, heartbeatMs: 3_600_000, log: { warn: (_, message) => { warnings.push(message) } }, ...options })
  const server = createServer((request, response) => {
    feed.listen({ response, headers: {}, address: undefined, start: feed.locate(undefined) }, {})
  })
  const socketPath = await socketPathOf(t)
  if (transport === 'unix') server.listen(socketPath)
  else server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = transport === 'unix' ? { socketPath } : { host: '127.0.0.1', port: (server.address() as AddressInfo).port }
  t.teardown(async () => {
    await feed.close()
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
  })
  return {
    feed,
    address,
    warnings,
    stall: async () => {
      const connected = once(server, 'connection')
      const client = transport === 'unix' ? connect(socketPath) : connect(address.port ?? 0, '127.0.0.1')
      client.on('error', () => { /* a reset is what some of these wait for */ })
      t.teardown(() => client.destroy())
      const before = feed.subscribers
      client.pause()
      client.write('GET / HTTP/1.1\r\nHost: agent\r\n\r\n')
      const [socket] = await connected
      while (feed.subscribers === before) await turn()
      return { client, server: socket }
    },
    tell: (id, revision) => {
      feed.transition(taskOf({ id, revision, specDigest: kibibyte }))
    }
  }
}

/** Tells events, a few in each turn, until the connection no longer takes them. Returns how many. */
async function fill (agent: Agent, socket: Socket): Promise<number> {
  let told = 0
  do {
    for (let n = 0; n < 8; n++) agent.tell('filling', told++)
    await turn()
  } while (socket.writableLength === 0)
  return told
}

t.test('of two hundred that read and one that does not, only the one is cut off, and the others see everything', async t => {
  const agent = await agentOf(t)
  const readers = Array.from({ length: 200 }, () => new Subscriber(agent.address, '/'))
  await Promise.all(readers.map(reader => reader.event('synced')))
  const { server } = await agent.stall()
  let told = await fill(agent, server)
  let longestMs = 0
  for (let n = 0; n < 50; n++, told++) {
    const began = performance.now()
    agent.tell('one by one', n)
    const id = agent.feed.lastEventId
    await Promise.all(readers.map(reader => reader.until(frame => frame.id === id)))
    longestMs = Math.max(longestMs, performance.now() - began)
  }
  // who does not read has 30 s; the machine may do other things for some of them
  t.ok(longestMs < 15_000, `all others had each event within ${longestMs.toFixed()} ms`)
  let held = 0
  while (agent.feed.dropped.backlog === 0) {
    for (let n = 0; n < 8; n++) agent.tell('more', told++)
    await turn()
    held = Math.max(held, server.writableLength)
  }
  t.ok(held > 0 && held <= batchBytes, `the agent held ${held} bytes for it`)
  agent.tell('last', 0)
  await Promise.all(readers.map(reader => reader.until(({ data }) => data?.['id'] === 'last')))
  for (const reader of readers) {
    const ids = reader.frames.filter(({ event }) => event === 'task').map(({ id }) => id)
    if (ids.length !== told + 1 || ids.some((id, n) => id !== `here-${n + 1}`)) t.fail('a reader has missed something')
  }
  t.equal(agent.feed.subscribers, 200)
  t.same(agent.feed.dropped, { backlog: 1, stalled: 0 })
  t.match(agent.warnings, [/more than 1048576 bytes/])
})

t.test('on TCP, too, who does not read is cut off', async t => {
  const agent = await agentOf(t, { history: 100_000 }, 'tcp')
  const { client, server } = await agent.stall()
  let told = await fill(agent, server)
  while (agent.feed.dropped.backlog === 0) {
    for (let n = 0; n < 64; n++) agent.tell('more', told++)
    await turn()
  }
  client.resume()
  await once(client, 'close')
  t.ok(client.bytesRead < told * kibibyte.length - 1024 * 1024, 'what waited was not sent')
})

t.test('who takes nothing for too long is cut off, however little waits', async t => {
  const agent = await agentOf(t, { drainMs: 50 })
  const { server } = await agent.stall()
  const gone = once(server, 'close')
  await fill(agent, server)
  await gone
  t.same(agent.feed.dropped, { backlog: 0, stalled: 1 })
  t.equal(agent.feed.subscribers, 0)
  t.match(agent.warnings, [/took nothing for 50 ms/])
})

t.test('who reads slowly loses numbers, but never a transition nor the newest numbers', async t => {
  const agent = await agentOf(t, { history: 100_000 })
  const { client, server } = await agent.stall()
  const told = await fill(agent, server)
  const task = taskOf({ id: 'moving', revision: 0 })
  agent.feed.transition(task)
  for (let tick = 1; tick <= 500; tick++) {
    agent.feed.progress({ ...task, tick, progress: { phase: 'copying' } })
    await turn()
  }
  agent.feed.transition({ ...task, revision: 1 })
  for (let tick = 501; tick <= 1000; tick++) {
    agent.feed.progress({ ...task, revision: 1, tick, progress: { phase: 'copying' } })
    await turn()
  }
  let text = ''
  client.setEncoding('utf8')
  client.on('data', chunk => { text += chunk }).resume()
  while (!text.includes('"tick":1000,')) await once(client, 'data')
  const frames = text.split('\n\n').filter(frame => frame.includes('event: '))
  t.same(frames.filter(frame => frame.includes('event: task')).map(frame => frame.split('\n', 1)[0]), Array.from({ length: told + 2 }, (_, n) => `id: here-${n + 1}`))
  t.equal(frames.filter(frame => frame.includes('event: progress')).length, 1)
  t.same(agent.feed.dropped, { backlog: 0, stalled: 0 })
})

t.test('the bound counts what waits for the subscriber, not what its filter keeps away', async t => {
  const { feed, address } = await agentOf(t, { history: 100_000, backlogBytes: 100_000 })
  const server = createServer((_, response) => {
    feed.listen({ response, headers: {}, address: undefined, start: feed.locate(undefined) }, { types: ['image'] })
  })
  const socketPath = await socketPathOf(t)
  server.listen(socketPath)
  await once(server, 'listening')
  t.teardown(() => { server.closeAllConnections(); server.close() })
  t.ok(address)
  const connected = once(server, 'connection')
  const client = connect(socketPath).pause()
  t.teardown(() => client.destroy())
  client.write('GET / HTTP/1.1\r\nHost: agent\r\n\r\n')
  const [socket] = await connected
  const change = { domain: 'local', image: kibibyte, state: 'ok', observedAt: '2026-01-01T00:00:00.000Z' } as const
  while (socket.writableLength === 0) {
    feed.image(change)
    await turn()
  }
  for (let n = 0; n < 500; n++) feed.transition(taskOf({ id: 'other', revision: n, specDigest: kibibyte }))
  await turn()
  t.same(feed.dropped, { backlog: 0, stalled: 0 })
  for (let n = 0; n < 100; n++) feed.image(change)
  while (feed.dropped.backlog === 0) await turn()
  t.equal(feed.dropped.backlog, 1)
})

t.test('a client that closes its half of the connection is gone', async t => {
  const agent = await agentOf(t)
  const { client } = await agent.stall()
  client.resume()
  client.end()
  while (agent.feed.subscribers > 0) {
    agent.tell('a', 0)
    await turn()
  }
  t.same(agent.feed.dropped, { backlog: 0, stalled: 0 })
})

t.test('closing says bye behind what is queued, and does not wait for those who take nothing', async t => {
  const agent = await agentOf(t)
  const reader = new Subscriber(agent.address, '/')
  await reader.event('synced')
  const { server } = await agent.stall()
  const told = await fill(agent, server)
  const gone = once(server, 'close')
  agent.tell('last', 0)
  await agent.feed.close()
  await Promise.all([gone, reader.ended])
  t.equal(reader.frames.filter(({ event }) => event === 'task').length, told + 1)
  t.match(reader.frames.slice(-2), [{ event: 'task', id: `here-${told + 1}` }, { event: 'bye', data: { reason: 'stopping' } }])
  t.equal(agent.feed.subscribers, 0)
})
