import { getEventListeners, once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { connect } from 'node:net'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { createApp } from '../../src/app.ts'
import { lineOf } from '../../src/auth/token-file.ts'
import { makeToken } from '../../src/auth/token.ts'
import { parseConfig } from '../../src/config.ts'
import { Clock } from '../helpers/clock.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { copyOf, silent, startAgent, until } from '../helpers/http-agent.ts'
import { HttpClient, isProblem } from '../helpers/http-client.ts'
import { drive } from '../helpers/http-states.ts'
import { Subscriber } from '../helpers/subscriber.ts'

/** The whole agent on a port, with two tokens that may operate. */
async function start (t: Test, http: object, log = silent) {
  const directory = await temporaryDirectory(t)
  const [one, two] = [makeToken(), makeToken()]
  await writeFile(join(directory, 'tokens'), [one, two].map((token, index) => lineOf(token, { name: `t${index}`, scope: 'operate', createdAt: new Date() })).join('\n'))
  const app = createApp(parseConfig({ domains: [], listen: [{ port: 0 }, { unix: 'a.sock' }], auth: { tokensFile: 'tokens' }, http }, directory), log)
  t.teardown(async () => { await app.stop() })
  const [address = ''] = await app.start()
  const port = Number(new URL(address).port)
  const client = new HttpClient({ host: '127.0.0.1', port })
  const local = new HttpClient({ socketPath: join(directory, 'a.sock') })
  t.teardown(() => {
    client.close()
    local.close()
  })
  return { app, port, client, local, one: { authorization: `Bearer ${one}` }, two: { authorization: `Bearer ${two}` }, token: one }
}

t.test('who asks too often is told to wait; others, and streams in progress, are not', async t => {
  const { client, local, port, one, two } = await start(t, { maxRequestsPerSecond: 20 })
  const stream = new Subscriber({ host: '127.0.0.1', port }, '/events', one)
  t.teardown(() => { stream.request.destroy() })
  await stream.event('synced')
  // on a slow machine these take more than a second
  const began = performance.now()
  const allowed = () => 20 * (2 + Math.floor((performance.now() - began) / 1000))
  const replies = await Promise.all(Array.from({ length: 60 }, async () => await client.get('/tasks', one)))
  t.ok(replies.filter(({ status }) => status === 200).length <= allowed(), 'at most as many as the seconds allow')
  const refused = replies.find(({ status }) => status === 429)
  if (refused === undefined) throw new Error('all were answered')
  isProblem(t, refused, 'too-many-requests')
  t.equal(refused.headers['retry-after'], '1')
  // an EventSource would never come back after a 429
  const streams = await Promise.all(Array.from({ length: 60 }, async () => {
    const subscriber = new Subscriber({ host: '127.0.0.1', port }, '/events', one)
    t.teardown(() => { subscriber.close() })
    const { event, data } = await subscriber.until(({ event }) => event === 'synced' || event === 'busy')
    if (event === 'busy') t.match(subscriber, { response: { statusCode: 200 }, frames: [{ retry: Number }, { data: { limit: 'requestsPerSecond', maximum: 20 } }] })
    return data?.['limit']
  }))
  t.ok(streams.filter(limit => limit === undefined).length <= allowed())
  t.ok(streams.includes('requestsPerSecond'))
  t.equal((await client.get('/tasks', two)).status, 200, 'another token')
  t.equal((await client.get('/healthz')).status, 200, 'health')
  t.ok((await Promise.all(Array.from({ length: 60 }, async () => await local.get('/tasks')))).every(({ status }) => status === 200), 'the unix socket')
  t.notOk(stream.response?.destroyed, 'the stream goes on')
})

t.test('guesses at the login are few', async t => {
  const { client } = await start(t, {})
  const attempt = async () => await client.send('POST', '/login', { body: 'token=guess', headers: { 'content-type': 'application/x-www-form-urlencoded' } })
  const statuses = (await Promise.all(Array.from({ length: 15 }, attempt))).map(({ status }) => status)
  t.same(statuses.filter(status => status === 401).length, 10)
  t.same(statuses.filter(status => status === 429).length, 5)
})

t.test('while the event loop lags, only what is vital is answered', async t => {
  const { client, port, one } = await start(t, { maxLagMs: 30 })
  const stream = new Subscriber({ host: '127.0.0.1', port }, '/events', one)
  t.teardown(() => { stream.request.destroy() })
  await stream.event('synced')
  let blocking = true
  const block = () => {
    const end = performance.now() + 120
    while (performance.now() < end);
    if (blocking) setImmediate(block)
  }
  block()
  let reply = await client.get('/tasks', one)
  for (let tries = 0; reply.status === 200 && tries < 100; tries++) reply = await client.get('/tasks', one)
  isProblem(t, reply, 'agent-overloaded')
  t.equal(reply.headers['retry-after'], '2')
  isProblem(t, await client.put('/tasks/a', '{}', one), 'agent-overloaded')
  t.equal((await client.get('/healthz')).status, 200, 'health')
  isProblem(t, await client.delete('/tasks/a', one), 'task-not-found', 'cancel')
  const another = new Subscriber({ host: '127.0.0.1', port }, '/events', one)
  await another.event('synced')
  another.request.destroy()
  t.notOk(stream.response?.destroyed, 'and the stream goes on')
  blocking = false
  for (let tries = 0; reply.status !== 200 && tries < 500; tries++) {
    reply = await client.get('/tasks', one)
    await new Promise(resolve => setTimeout(resolve, 20))
  }
  t.equal(reply.status, 200, 'afterwards everything is answered again')
})

t.test('of more requests than one turn of the event loop can answer in time, the last are refused', async t => {
  const { app, client, one } = await start(t, { maxLagMs: 200, maxRequestsPerSecond: 100_000 })
  // each costs a little, as a long list does: all of them more than may be, one of them far less, also where others take most of the processor
  let costMs = 0
  app.http.server.prependListener('request', () => { for (const end = performance.now() + costMs; performance.now() < end;); })
  const burst = async () => await Promise.all(Array.from({ length: 100 }, async () => (await client.get('/tasks', one)).status))
  // connections come one in a turn; on those that there are then, all requests come in one
  await burst()
  // not before: on a slow machine it would have been overloaded for so long that everything is refused
  costMs = 5
  t.same([...new Set(await burst())].sort(), [200, 503])
})

t.test('what is vital does not wait for all that came before it', async t => {
  const { app, client, one } = await start(t, { maxLagMs: 60_000, maxRequestsPerSecond: 100_000 })
  app.http.server.prependListener('request', ({ url }) => { for (const end = performance.now() + (url === '/tasks' ? 2 : 0); performance.now() < end;); })
  let answered = 0
  const burst = () => Array.from({ length: 200 }, async () => {
    t.equal((await client.get('/tasks', one)).status, 200)
    answered++
  })
  // as above: connections first
  await Promise.all([...burst(), client.get('/healthz')])
  answered = 0
  const all = Promise.all(burst())
  t.equal((await client.get('/healthz')).status, 200)
  t.ok(answered < 100, `${answered} of 200 were answered before it`)
  await all
  t.equal(answered, 200, 'nobody is forgotten')
})

t.test('who hangs up before it is his turn is not served any more', async t => {
  const limits = { maxConnections: Infinity, maxConnectionsPerAddress: Infinity, maxHeaderBytes: 4096, headersTimeoutSeconds: 60, requestTimeoutSeconds: 60, maxLagMs: 60_000 }
  const agent = await startAgent(t, { server: { limits } })
  const run = await drive(agent, 'a', copyOf('s', 'a'), 'running')
  const poll = `GET /tasks/a HTTP/1.1\r\nHost: localhost\r\nPrefer: wait=60\r\nIf-None-Match: ${run.etag}\r\n\r\n`
  const ends = []
  while (ends.length < 20) {
    const connected = once(agent.app.server, 'connection')
    const socket = connect(agent.port, '127.0.0.1')
    ends.push({ socket, gone: once((await connected)[0], 'close') })
  }
  // all come in one turn, the first takes all of it, and when the others would be served they have gone
  agent.app.server.prependListener('request', () => { for (const end = performance.now() + 30; performance.now() < end;); })
  for (const { socket } of ends) {
    socket.write(poll)
    socket.destroy()
  }
  await Promise.all(ends.map(async ({ gone }) => { await gone }))
  t.equal((await agent.client.get('/tasks/a')).status, 200, 'behind all of them')
  t.equal(getEventListeners(agent.registry.stopping, 'abort').length, 0, 'nobody waits')
})

t.test('headers and bodies that do not come in time, or are too long, end the connection', async t => {
  const limits = { headersTimeoutSeconds: 0.5, requestTimeoutSeconds: 1, maxHeaderBytes: 4096 }
  const { port } = await start(t, limits)
  // its tasks are not accepted until somebody says so
  const waiting = await startAgent(t, { server: { limits: { ...limits, maxConnections: 100, maxConnectionsPerAddress: 100, maxLagMs: Infinity } } })
  const command = JSON.stringify(copyOf('a.raw', 'b.raw'))
  const exchange = async (start: string, to = port): Promise<string> => {
    const socket = connect(to, '127.0.0.1')
    let got = ''
    socket.setEncoding('utf8').on('data', (text: string) => { got += text }).on('error', () => {})
    socket.write(start)
    await once(socket, 'close')
    return got
  }
  const [silent, slow, body, behind, due, long] = await Promise.all([
    exchange(''),
    exchange('GET /tasks HTTP/1.1\r\nHost: localhost\r\nX: '),
    exchange('POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\ntok'),
    exchange('PUT /tasks/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{'),
    exchange(`PUT /tasks/b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nPrefer: wait=60\r\nContent-Length: ${command.length}\r\n\r\n${command}GET /tasks HTTP/1.1\r\nHost: loc`, waiting.port),
    exchange(`GET /tasks HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(5000)}\r\n\r\n`)
  ])
  for (const [name, got] of Object.entries({ silent, slow })) t.match(got, /^HTTP\/1.1 408 .*"code":"request-timeout"/s, name)
  t.match(body, /^HTTP\/1.1 408 .*"code":"request-timeout"/s, 'also of a request whose reply would be the next')
  t.equal(body.match(/HTTP\//g)?.length, 1)
  t.match(behind, /^HTTP\/1.1 401 (?!.*HTTP\/1.1)/s, 'behind a reply to the same request there is no second one')
  t.equal(due, '', 'where a reply is due to another request, no other may take its place')
  t.match(long, /^HTTP\/1.1 431 .*"code":"headers-too-large"/s)
})

t.test('a connection on which too many requests wait for their replies is ended', async t => {
  const { port, one } = await start(t, { maxRequestsPerSecond: 100_000 })
  const head = (path: string) => `GET ${path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: ${one.authorization}\r\n\r\n`
  const pipeline = async (requests: string, enough: number) => {
    const socket = connect(port, '127.0.0.1')
    let got = ''
    socket.setEncoding('utf8').on('data', (text: string) => {
      got += text
      if (got.split('HTTP/1.1 200 ').length > enough) socket.destroy()
    }).on('error', () => {})
    socket.write(requests)
    await once(socket, 'close')
    return got
  }
  await pipeline(head('/events').repeat(1100), Infinity)
  // those whose replies go out are as many as one likes
  t.ok(await pipeline(head('/agent').repeat(400), 400))
})

t.test('also a change whose caller hangs up before the reply has its line', async t => {
  const lines: string[] = []
  const log = pino({ level: 'error' }, { write: (line: string) => { lines.push(line) } })
  const { port, bodies } = await startAgent(t, { server: { log } })
  const command = JSON.stringify(copyOf('a.raw', 'b.raw'))
  const socket = connect(port, '127.0.0.1')
  socket.write(`PUT /tasks/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nPrefer: wait=60\r\nContent-Length: ${command.length}\r\n\r\n${command}`)
  await bodies.of('a')
  socket.destroy()
  await until(() => lines.length > 0)
  t.match(JSON.parse(lines[0] ?? ''), { audit: 'change', method: 'PUT', path: '/tasks/a', status: 202, command: { kind: 'storage.copyImage' } })
})

t.test('every change and every refusal has a line in the log, at any level, and no secret is in one', async t => {
  const lines: string[] = []
  const log = pino({ level: 'error' }, { write: (line: string) => { lines.push(line) } })
  const { client, one, token } = await start(t, {}, log)
  await client.put('/tasks/a', { kind: 'storage.deleteImage', domain: 'none', image: 'a.raw' }, one)
  await client.put(`/tasks/b?token=${token}`, { kind: 'nonsense', secret: token }, one)
  await client.get('/agent/config', one)
  await client.delete('/tasks/a', { authorization: `Bearer ${makeToken()}`, cookie: 'secret=1' })
  await client.send('POST', '/login', { body: `token=${token}`, headers: { 'content-type': 'application/x-www-form-urlencoded' } })
  await client.get('/tasks', one)
  await until(() => lines.length >= 5)
  t.match(lines.map(line => JSON.parse(line) as object), [
    { audit: 'change', who: 't0', via: 'token', from: '127.0.0.1', method: 'PUT', path: '/tasks/a', status: 404, code: 'domain-not-found', command: { kind: 'storage.deleteImage', image: 'a.raw' } },
    { audit: 'change', who: 't0', method: 'PUT', path: '/tasks/b', status: 400, code: 'bad-request', command: undefined },
    { audit: 'refusal', who: 't0', method: 'GET', path: '/agent/config', status: 403, code: 'scope-insufficient' },
    { audit: 'refusal', who: 'unknown', method: 'DELETE', path: '/tasks/a', status: 401, code: 'credentials-invalid' },
    { audit: 'change', who: 't0', via: 'session', method: 'POST', path: '/login', status: 303 }
  ])
  t.equal(lines.length, 5, 'reading is not written down')
  t.notMatch(lines.join(''), /vdsmt_|secret/)
})

t.test('of a flood of refusals the log has the first thousand and the number of the others; those of a caller who is known are all there', async t => {
  const clock = new Clock(t, { atLeastMs: 5000 })
  const lines: string[] = []
  const log = pino({ level: 'info' }, { write: (line: string) => { if (/"(audit|reqId)"/.test(line)) lines.push(line) } })
  const { client, one } = await start(t, {}, log)
  const flood = async (count: number) => {
    for (let left = count; left > 0; left -= 100) await Promise.all(Array.from({ length: Math.min(left, 100) }, async () => await client.get('/tasks')))
    // what is refused before anybody looks who asks says nothing about a caller
    await client.get('/%zz')
  }
  await flood(1200)
  t.equal(lines.length, 1000)
  await client.get('/agent/config', one)
  t.equal(lines.length, 1002, 'the refusal, and why')
  t.match(JSON.parse(lines.at(-1) ?? ''), { audit: 'refusal', who: 't0', path: '/agent/config', status: 403 })
  clock.pass(10_000)
  t.match(JSON.parse(lines.at(-1) ?? ''), { audit: 'refusal', who: 'unknown', more: 200 })
  t.equal(lines.length, 1003)
  await flood(10)
  t.equal(lines.length, 1013, 'then each has a line again')
  clock.pass(10_000)
  t.equal(lines.length, 1013, 'and nothing was left out')
})
