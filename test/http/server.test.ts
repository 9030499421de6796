import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { createServer, listenAlso } from '../../src/http/server.ts'
import type { App } from '../../src/http/types.ts'
import { copyOf, silent, startAgent, until } from '../helpers/http-agent.ts'
import { exchange, HttpClient, isProblem, parseReply } from '../helpers/http-client.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { drive } from '../helpers/http-states.ts'

/** A server with a route that answers when the test lets it, and one with a long answer. */
async function serverOf (t: Test, options: Partial<Parameters<typeof createServer>[0]> = {}) {
  const app: App = createServer({ log: silent, instance: 'feedfacecafe', allowedHosts: [], maxBodyBytes: 1024, ...options })
  const held: Array<(text: string) => void> = []
  const longs = { count: 0 }
  app.get('/held', async () => await new Promise<string>(resolve => { held.push(resolve) }))
  app.get('/long', async () => { longs.count++; return 'x'.repeat(1_000_000) })
  app.post('/body', async request => ({ got: request.body ?? null }))
  app.get('/broken', async () => { throw new Error('secret: hunter2') })
  app.get('/closed', async () => { throw Object.assign(new Error('I am a teapot'), { statusCode: 418 }) })
  t.teardown(async () => { await app.close() })
  await app.listen({ host: '127.0.0.1', port: 0 })
  const address = app.server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  const client = new HttpClient({ host: '127.0.0.1', port })
  t.teardown(() => { client.close() })
  return { app, port, client, held, longs }
}

const raw = (lines: string[], body = '') => [...lines, '', body].join('\r\n')
const closing = ['Host: localhost', 'Connection: close']

t.test('an unknown address is 404, whatever is sent there', async t => {
  const { client, port } = await serverOf(t)
  for (const [method, path] of [['GET', '/'], ['PUT', '/nope'], ['POST', '/held/x'], ['DELETE', '/HELD'], ['OPTIONS', '*'], ['GET', '//held'], ['PROPFIND', '/nope']] as const) {
    const reply = await client.send(method, path)
    isProblem(t, reply, 'not-found', `${method} ${path}`)
    t.notOk('allow' in reply.headers)
  }
  for (const [type, body] of [['text/plain', 'x'], ['application/json', '{x'], ['application/json', `"${'x'.repeat(5000)}"`], ['nonsense', '']] as const) {
    isProblem(t, await client.send('POST', '/nope', { body, headers: { 'content-type': type } }), 'not-found', `${type} of ${body.length}`)
  }
  isProblem(t, parseReply(await exchange({ port }, raw(['HEAD /nope HTTP/1.1', ...closing])) + '{"code":"not-found","status":404,"title":"There is nothing at this address","type":"urn:vdsm-tasks:problem:not-found","detail":"-"}'), 'not-found', 'HEAD has no body')
})

t.test('a known address with another method is 405 and lists those it takes', async t => {
  const { client } = await startAgent(t)
  for (const [path, allow, methods] of [
    ['/tasks', 'GET, HEAD', ['PUT', 'POST', 'DELETE', 'PATCH', 'OPTIONS', 'TRACE', 'PROPFIND']],
    ['/tasks/a', 'DELETE, GET, HEAD, PATCH, PUT', ['POST', 'OPTIONS', 'TRACE', 'PROPFIND']],
    ['/tasks/', 'DELETE, GET, HEAD, PATCH, PUT', ['POST']],
    ['/tasks/a?x=1', 'DELETE, GET, HEAD, PATCH, PUT', ['POST']]
  ] as const) {
    for (const method of methods) {
      const reply = await client.send(method, path, method === 'POST' ? { body: '{x', headers: { 'content-type': 'application/json' } } : {})
      isProblem(t, reply, 'method-not-allowed', `${method} ${path}`)
      t.equal(reply.headers.allow, allow)
    }
  }
})

t.test('a body that is no JSON, of another type, or too long is refused', async t => {
  const { client, port } = await serverOf(t)
  const post = async (body: string, type = 'application/json') => await client.send('POST', '/body', { body, headers: { 'content-type': type } })
  for (const text of ['{', '{x}', '{"a":1,}', "{'a':1}", 'a=1&b=2', '\u0000', '{"__proto__":{"x":1}}', '{"a":{"constructor":{"prototype":{}}}}']) {
    for (const type of ['application/json', 'application/merge-patch+json', 'application/x-www-form-urlencoded', 'application/json; charset=utf-8', 'APPLICATION/JSON']) {
      const reply = await post(text, type)
      isProblem(t, reply, 'bad-request', `${type}: ${JSON.stringify(text)}`)
    }
  }
  for (const type of ['text/plain', 'text/html', 'multipart/form-data; boundary=x', 'application/xml', 'application/jsonx', 'nonsense', '']) {
    const reply = await post('{}', type)
    isProblem(t, reply, 'unsupported-media-type', type)
    t.match(reply.problem.detail, /content-type: application\/json/)
  }
  isProblem(t, await post(`"${'x'.repeat(1023)}"`), 'body-too-large')
  t.equal((await post(`"${'x'.repeat(1022)}"`)).status, 200)
  const chunks = `400\r\n"${'x'.repeat(1023)}\r\n400\r\n${'x'.repeat(1023)}"\r\n0\r\n\r\n`
  isProblem(t, parseReply(await exchange({ port }, raw(['POST /body HTTP/1.1', ...closing, 'Content-Type: application/json', 'Transfer-Encoding: chunked'], chunks))), 'body-too-large', 'also in chunks')
  isProblem(t, parseReply(await exchange({ port }, raw(['POST /body HTTP/1.1', ...closing, 'Content-Type: application/json', 'Content-Length: 99999999999']))), 'body-too-large', 'already when it is only announced')
})

t.test('an empty body is no body, whatever type it claims', async t => {
  const { client } = await serverOf(t)
  for (const headers of [{}, { 'content-type': 'application/json' }, { 'content-type': 'application/x-www-form-urlencoded' }]) {
    const reply = await client.send('POST', '/body', { headers: { ...headers, 'content-length': 0 } })
    t.match(reply, { status: 200, json: { got: null } })
  }
})

t.test('an error nobody foresaw tells the caller nothing and the log everything; so does no other error', async t => {
  const lines: Array<Record<string, unknown>> = []
  const log = pino({ level: 'debug' }, { write: line => { if (line.includes('"reqId"')) lines.push(JSON.parse(line)) } })
  const { client } = await serverOf(t, { log })
  const reply = await client.get('/broken?token=hunter3')
  isProblem(t, reply, 'internal')
  t.notMatch(reply.text, 'hunter2')
  t.match(lines, [{ level: 50, method: 'GET', path: '/broken', code: 'internal', err: { message: 'secret: hunter2' } }, { level: 20, method: 'GET', path: '/broken', status: 500 }])
  lines.length = 0
  isProblem(t, await client.get('/closed'), 'bad-request')
  await client.get('/nope?token=hunter3')
  await client.get('/%zz?token=hunter3')
  await client.send('POST', '/body?token=hunter3', { body: '{x', headers: {} })
  await client.get('/long?token=hunter3')
  t.notMatch(JSON.stringify(lines), 'hunter', 'the log has no query')
  t.ok(lines.every(({ level }) => level === 20 || level === 30), 'a caller\'s mistake is no error of ours')
  t.match(lines.at(-1), { level: 20, method: 'GET', path: '/long', status: 200, ms: Number })
})

t.test('what is not HTTP, or too much of it, is a problem, too, and names the instance', async t => {
  const { port } = await serverOf(t)
  for (const [what, bytes, code] of [
    ['garbage', 'GARBAGE\r\n\r\n', 'bad-request'],
    ['a TLS client', Buffer.from('160301020001fc030300', 'hex'), 'bad-request'],
    ['HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'bad-request'],
    ['a header with a control character', raw(['GET /held HTTP/1.1', ...closing, 'X: a\u0000b']), 'bad-request'],
    ['two lengths', raw(['POST /body HTTP/1.1', ...closing, 'Content-Length: 1', 'Content-Length: 2'], 'xx'), 'bad-request'],
    ['a length and chunks', raw(['POST /body HTTP/1.1', ...closing, 'Content-Length: 5', 'Transfer-Encoding: chunked'], '0\r\n\r\n'), 'bad-request'],
    ['headers of 20 KiB', raw(['GET /held HTTP/1.1', ...closing, `X: ${'x'.repeat(20_000)}`]), 'headers-too-large'],
    ['an address of 20 KiB', raw([`GET /${'x'.repeat(20_000)} HTTP/1.1`, ...closing]), 'headers-too-large'],
    ['a percent sign', raw(['GET /held%zz HTTP/1.1', ...closing]), 'bad-request'],
    ['no Host', raw(['GET /held HTTP/1.1', 'Connection: close']), 'host-not-allowed'],
    ['no Host in HTTP/1.0', raw(['GET /held HTTP/1.0']), 'host-not-allowed']
  ] as const) {
    const reply = parseReply(await exchange({ port }, bytes))
    isProblem(t, reply, code, what)
    t.equal(reply.headers['agent-instance'], 'feedfacecafe')
    t.equal(Number(reply.headers['content-length']), Buffer.byteLength(reply.text), what)
  }
})

t.test('an expectation that nobody can meet is ignored', async t => {
  const { port } = await serverOf(t)
  t.match(parseReply(await exchange({ port }, raw(['POST /body HTTP/1.1', ...closing, 'Expect: the unexpected', 'Content-Type: application/json', 'Content-Length: 1'], '1'))), { status: 200, json: { got: 1 } })
})

t.test('requests of one connection are served one after the other, and no reply is made before the one before it is taken', async t => {
  const { port, held, app } = await serverOf(t)
  const got = exchange({ port }, raw(['GET /held HTTP/1.1', 'Host: localhost']).repeat(2) + raw(['POST /body HTTP/1.1', ...closing, 'Content-Type: application/json', 'Content-Length: 1'], '1'))
  await until(() => held.length === 1)
  await app.inject({ url: '/long', headers: { host: 'localhost' } })
  t.equal(held.length, 1, 'the second waits for the first')
  held[0]?.('first')
  await until(() => held.length === 2)
  held[1]?.('second')
  t.match(await got, /first.*second.*\{"got":1\}$/s)
})

t.test('a connection that asks much and reads nothing costs one reply', async t => {
  const { port, longs } = await serverOf(t)
  const socket = connect(port, '127.0.0.1').pause()
  t.teardown(() => { socket.destroy() })
  socket.write(raw(['GET /long HTTP/1.1', 'Host: localhost']).repeat(200))
  await until(() => longs.count > 0)
  await setTimeout(100)
  // so many as the buffers of the kernel take
  t.ok(longs.count < 20, `${longs.count} of 200`)
  socket.destroy()
  await setTimeout(50)
  t.ok(longs.count < 20, 'and none for one that is gone')
})

t.test('garbage behind a request whose reply is still due is not answered in its place', async t => {
  const { port, held, app } = await serverOf(t)
  const received = exchange({ port }, raw(['GET /held HTTP/1.1', 'Host: localhost']) + 'GARBAGE\r\n\r\n')
  t.equal(await received.catch(error => error.code === 'ECONNRESET' ? '' : error), '')
  await until(() => held.length === 1)
  held[0]?.('too late')
  t.equal((await app.inject({ url: '/long', headers: { host: 'localhost' } })).statusCode, 200)
})

t.test('HEAD has the headers of GET and no body', async t => {
  const agent = await startAgent(t)
  const run = await drive(agent, 'a', copyOf('s', 'a'), 'running')
  const get = await agent.client.get('/tasks/a')
  const head = await agent.client.send('HEAD', '/tasks/a')
  t.match(head, { status: 200, text: '', headers: { etag: run.etag, 'content-length': get.headers['content-length'], 'content-type': get.headers['content-type'] } })
  t.match(await agent.client.send('HEAD', '/tasks/nobody'), { status: 404, text: '', headers: { 'content-type': /problem\+json/, 'agent-instance': agent.registry.instance } })
  t.match(await agent.client.send('HEAD', '/tasks/a', { headers: { 'if-none-match': run.etag } }), { status: 304, text: '' })
})

t.test('every reply names the instance', async t => {
  const { client } = await startAgent(t)
  const replies = [
    await client.get('/tasks'), await client.get('/tasks/nobody'), await client.get('/nope'), await client.send('POST', '/tasks'),
    await client.put('/tasks/%2F', {}), await client.put('/tasks/a', '{x'), await client.get('/%zz'), await client.get('/tasks', { host: 'evil.example' }),
    await client.put('/tasks/a', copyOf('a', 'b'), { prefer: 'respond-async' }), await client.get('/tasks/a', { 'if-none-match': '*' }), await client.delete('/tasks/a')
  ]
  t.same(replies.map(({ status }) => status), [200, 404, 404, 405, 400, 400, 400, 403, 202, 304, 202])
  for (const { headers, status } of replies) t.equal(headers['agent-instance'], 'feedfacecafe', String(status))
})

t.test('several listeners serve the same, and each is gone after a stop', async t => {
  const { app, client, port, held } = await serverOf(t)
  const path = join(await temporaryDirectory(t), 'a.sock')
  const others = [await listenAlso(app, { path }), await listenAlso(app, { host: '127.0.0.1', port: 0 })]
  t.teardown(() => { for (const server of others) server.close() })
  const address = others[1]?.address()
  const second = typeof address === 'object' && address !== null ? address.port : 0
  const clients = [client, new HttpClient({ socketPath: path }), new HttpClient({ host: '127.0.0.1', port: second })]
  t.teardown(() => { for (const client of clients) client.close() })
  for (const client of clients) t.equal((await client.get('/long')).text.length, 1_000_000)
  const held3 = clients.map(async client => await client.get('/held'))
  await until(() => held.length === 3)
  for (const release of held) release('done')
  t.same((await Promise.all(held3)).map(({ text }) => text), ['done', 'done', 'done'])
  for (const server of others) server.close()
  await app.close()
  for (const address of [{ port, host: '127.0.0.1' }, { path }, { port: second, host: '127.0.0.1' }]) {
    const [error] = await once(connect(address), 'error')
    t.match(error.code, /^(ECONNREFUSED|ENOENT)$/)
  }
})

t.test('a listener whose address is taken says so', async t => {
  const { app, port } = await serverOf(t)
  await t.rejects(listenAlso(app, { host: '127.0.0.1', port }), { code: 'EADDRINUSE' })
})

/** Reads whatever a socket receives until it ends. */
function listen (socket: Socket): { received: () => string, ended: Promise<unknown> } {
  let received = ''
  socket.setEncoding('utf8')
  socket.on('data', text => { received += String(text) })
  socket.on('error', () => {})
  return { received: () => received, ended: new Promise(resolve => { socket.once('close', resolve) }) }
}

t.test('a stop lets replies under way end whole, closes what is idle, and cuts what never ends', async t => {
  const { app, port, held } = await serverOf(t)
  const open = async (bytes: string) => {
    const socket = connect(port, '127.0.0.1')
    await once(socket, 'connect')
    socket.write(bytes)
    return { socket, ...listen(socket) }
  }
  const get = (path: string) => raw([`GET ${path} HTTP/1.1`, 'Host: localhost'])
  const order: string[] = []
  const idle = await open(get('/long'))
  await until(() => idle.received().endsWith('xx') && idle.received().length > 1_000_000)
  const silentOne = await open('')
  const halfSent = await open('GET /long HTTP/1.1\r\nHost: localh')
  const halfBody = await open(raw(['POST /body HTTP/1.1', 'Host: localhost', 'Content-Type: application/json', 'Content-Length: 100'], '{'))
  const garbage = await open('GARBAGE\r\n\r\n')
  const waiting = await open(get('/held'))
  const forever = await open(get('/held'))
  await until(() => held.length === 2)
  for (const [name, { ended }] of Object.entries({ idle, silentOne, halfSent, halfBody, waiting, forever })) void ended.then(() => { order.push(name) })

  const stopped = app.close().then(() => { order.push('stopped') })
  await idle.ended
  t.same(order, ['idle'], 'an idle connection goes first')
  held[0]?.('x'.repeat(500_000))
  await waiting.ended
  t.equal(parseReply(waiting.received()).text.length, 500_000, 'a reply under way is whole')
  t.match(waiting.received(), /^connection: close\r$/m)
  t.same(order.slice(0, 2), ['idle', 'waiting'])
  await stopped
  t.equal(order.at(-1) === 'stopped' || order.includes('forever'), true)
  await Promise.all([silentOne, halfSent, halfBody, forever].map(({ ended }) => ended))
  t.equal(forever.received(), '')
  garbage.socket.destroy()
})

t.test('a server that never listened can be closed, twice, and keeps nothing alive', async t => {
  const app = createServer({ log: silent, instance: 'x', allowedHosts: [], maxBodyBytes: 1024 })
  await app.ready()
  await app.close()
  await app.close()
  t.equal(app.server.listening, false)
})
