import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, readFile, writeFile } from 'node:fs/promises'
import { get } from 'node:http'
import { connect, createServer as createSocketServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { Feed } from '../../src/events/feed.ts'
import { eventRoutes } from '../../src/http/events.ts'
import { createServer } from '../../src/http/server.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { silent } from '../helpers/http-agent.ts'
import { needs } from '../helpers/needs.ts'
import { until } from '../helpers/processes.ts'
import { Subscriber } from '../helpers/subscriber.ts'
import { taskOf } from '../helpers/tasks.ts'

needs('nginx')

interface Proxied {
  feed: Feed
  /** Where nginx listens. */
  port: number
  /** Where the agent does. */
  upstream: number
  follow (lastEventId?: string, to?: number): Subscriber
  /** Tells the next transition of a task. Returns the id of its frame. */
  tell (): string
  stop (): Promise<void>
}

/** The real server behind a real nginx that does what it does by default: buffer, and speak HTTP/1.0 to the agent. */
async function proxied (t: Test): Promise<Proxied> {
  const feed = new Feed({ instance: 'here', snapshot: () => [] })
  const app = createServer({ log: silent, instance: 'here', allowedHosts: [], maxBodyBytes: 1024 })
  eventRoutes(app, { feed, tasks: { find: () => undefined } })
  app.get('/megabyte-a-second', (_request, reply) => reply.type('application/octet-stream').send(Readable.from(pieces())))
  await app.listen({ host: '127.0.0.1', port: 0 })
  t.teardown(async () => { await app.close() })
  const { port: upstream } = app.server.address() as AddressInfo
  const port = await startNginx(t, upstream)
  let revision = 0
  return {
    feed,
    port,
    upstream,
    follow: (lastEventId, to = port) => {
      const subscriber = new Subscriber({ host: '127.0.0.1', port: to }, '/events', lastEventId === undefined ? {} : { 'last-event-id': lastEventId })
      t.teardown(() => { subscriber.close() })
      return subscriber
    },
    tell: () => {
      feed.transition(taskOf({ id: 'a', revision: revision++ }))
      return feed.lastEventId
    },
    stop: async () => { await app.close() }
  }
}

async function * pieces (): AsyncGenerator<Buffer> {
  for (;;) {
    yield Buffer.alloc(50_000)
    await sleep(50)
  }
}

/** Starts nginx in a directory of its own, in front of this port; resolves with its own. It ends with the test, also when that is killed. */
async function startNginx (t: Test, upstream: number): Promise<number> {
  const prefix = await temporaryDirectory(t)
  // its worker is another user
  await chmod(prefix, 0o755)
  const port = await freePort()
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(name => `${name}_temp_path ${prefix}/${name};`).join(' ')
  await writeFile(join(prefix, 'nginx.conf'), `
    daemon off; pid ${prefix}/pid; error_log ${prefix}/error.log;
    events { }
    http {
      access_log off; ${paths}
      server {
        listen 127.0.0.1:${port};
        location / { proxy_pass http://127.0.0.1:${upstream}; }
      }
    }`)
  const master = spawn('setpriv', ['--pdeathsig', 'TERM', 'nginx', '-p', prefix, '-c', join(prefix, 'nginx.conf'), '-e', join(prefix, 'error.log')], {
    stdio: 'ignore',
    env: { PATH: `${process.env['PATH']}:/usr/sbin` }
  })
  const gone = once(master, 'exit')
  t.teardown(async () => {
    master.kill('SIGTERM')
    await gone
  })
  await until(async () => {
    if (master.exitCode !== null) throw new Error(`nginx has ended: ${await readFile(join(prefix, 'error.log'), 'utf8')}`)
    return await answers(port)
  })
  return port
}

async function freePort (): Promise<number> {
  const server = createSocketServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

async function answers (port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  try {
    await once(socket, 'connect')
    return true
  } catch {
    // not yet
    return false
  } finally {
    socket.destroy()
  }
}

/** Tells events one by one, each when all have seen the one before: a proxy that holds one back stops it for ever. */
async function tellOneByOne ({ tell }: Proxied, subscribers: readonly Subscriber[], goOn: (told: number) => boolean): Promise<number> {
  let told = 0
  while (goOn(told)) {
    const id = tell()
    told++
    await Promise.all(subscribers.map(subscriber => subscriber.until(frame => frame.id === id)))
  }
  return told
}

function idsOf ({ frames }: Subscriber): Array<string | undefined> {
  return frames.filter(({ event }) => event === 'task').map(({ id }) => id)
}

function numbered (from: number, to: number): string[] {
  return Array.from({ length: to - from + 1 }, (_, n) => `here-${from + n}`)
}

t.test('through nginx a hundred subscribers see every event as it happens', async t => {
  const agent = await proxied(t)
  const subscribers = Array.from({ length: 100 }, () => agent.follow())
  await Promise.all(subscribers.map(subscriber => subscriber.event('synced')))
  t.match(subscribers[0]?.response?.headers, { server: /^nginx/, 'content-type': 'text/event-stream' })
  await tellOneByOne(agent, subscribers, told => told < 100)
  for (const subscriber of subscribers) t.same(idsOf(subscriber), numbered(1, 100))
})

t.test('through nginx a subscriber that comes back gets what it has missed, and the agent knows that it was gone', async t => {
  const agent = await proxied(t)
  const first = agent.follow()
  await first.event('synced')
  await tellOneByOne(agent, [first], told => told < 10)
  first.close()
  await until(() => agent.feed.subscribers === 0)
  for (let n = 0; n < 500; n++) agent.tell()
  const second = agent.follow(first.lastEventId)
  await second.event('synced')
  t.same(idsOf(second), numbered(11, 510))
  const stranger = agent.follow('there-7')
  await stranger.event('synced')
  t.same(stranger.names(), ['reset', 'synced'])
})

t.test('events come one by one beside a download of a megabyte a second, through nginx and without', async t => {
  const agent = await proxied(t)
  for (const port of [agent.port, agent.upstream]) {
    const from = agent.feed.events + 1
    const subscriber = agent.follow(agent.feed.lastEventId, port)
    await subscriber.event('synced')
    let bytes = 0
    const download = get({ host: '127.0.0.1', port, path: '/megabyte-a-second' }, response => {
      response.on('data', (part: Buffer) => { bytes += part.length })
      response.on('error', () => { /* cut off below */ })
    })
    download.on('error', () => { /* cut off below */ })
    const told = await tellOneByOne(agent, [subscriber], told => told < 100 || bytes < 1_000_000)
    t.same(idsOf(subscriber), numbered(from, from + told - 1))
    download.destroy()
    subscriber.close()
  }
})

t.test('when the agent stops, its bye and the end of the stream come through nginx', async t => {
  const agent = await proxied(t)
  const subscriber = agent.follow()
  await subscriber.event('synced')
  agent.tell()
  await Promise.all([agent.stop(), subscriber.ended])
  t.same(subscriber.names(), ['synced', 'task', 'bye'])
})
