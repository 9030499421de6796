import { once } from 'node:events'
import { connect } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { listenAlso } from '../../src/http/server.ts'
import { copyOf, startAgent } from '../helpers/http-agent.ts'
import { exchange, HttpClient, isProblem, parseReply } from '../helpers/http-client.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { Empty } from '../helpers/empty.ts'

t.test('a Host that names loopback is allowed, any other name is not', async t => {
  const { client, port } = await startAgent(t, { server: { allowedHosts: ['node1.example', 'Node2'] } })
  for (const host of ['localhost', 'localhost:7480', 'LOCALHOST:1', '127.0.0.1', '127.0.0.1:80', '127.1.2.3', '[::1]', '[::1]:7480', 'node1.example', 'NODE1.example:7480', 'node2']) {
    t.equal((await client.get('/tasks', { host })).status, 200, host)
  }
  for (const host of ['evil.example', 'evil.example:7480', 'localhost.evil.example', 'evil.localhost', '127.0.0.1.evil.example', '128.0.0.1', '10.0.0.1', '0.0.0.0', '[::]', '[::2]:7480', '::1', '127.999.0.1', '127.1', 'localhost.', 'node1.example.evil', 'localhost:80:80', 'localhost@evil.example', 'localhost, evil.example']) {
    const reply = await client.get('/tasks', { host })
    isProblem(t, reply, 'host-not-allowed', host)
  }
  isProblem(t, parseReply(await exchange({ port }, 'GET /tasks HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\nConnection: close\r\n\r\n')), 'bad-request', 'two are none')
  isProblem(t, parseReply(await exchange({ port }, 'GET /tasks HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n')), 'host-not-allowed', 'an empty one')
})

t.test('a page may talk to the agent that it came from, and to no other', async t => {
  const { client, bodies } = await startAgent(t)
  const headers = { host: '127.0.0.1:7480' }
  for (const origin of [undefined, 'http://127.0.0.1:7480', 'https://127.0.0.1:7480', 'HTTP://127.0.0.1:7480']) {
    t.equal((await client.get('/tasks', { ...headers, ...origin !== undefined && { origin } })).status, 200, String(origin))
  }
  for (const origin of ['null', '', 'http://evil.example', 'http://localhost:7480', 'http://127.0.0.1', 'http://127.0.0.1:7481', 'http://127.0.0.1:7480/', 'http://evil.example/127.0.0.1:7480', 'file://127.0.0.1:7480', '127.0.0.1:7480']) {
    isProblem(t, await client.get('/tasks', { ...headers, origin }), 'origin-not-allowed', origin)
    isProblem(t, await client.put('/tasks/a', copyOf('a', 'b'), { ...headers, origin }), 'origin-not-allowed', `PUT ${origin}`)
  }
  t.equal(bodies.all.length, 0)
})

t.test('the check comes before everything else that could be said', async t => {
  const { client } = await startAgent(t)
  for (const [method, path] of [['GET', '/nope'], ['POST', '/tasks'], ['PUT', '/tasks/%2F'], ['OPTIONS', '/tasks/a'], ['HEAD', '/tasks']] as const) {
    t.equal((await client.send(method, path, { headers: { host: 'evil.example' } })).status, 403, `${method} ${path}`)
  }
})

t.test('a request whose sender resets the connection at once is checked like any other', async t => {
  // its peer address is gone by the time it is served, and that is no sign of a unix socket
  const { port, bodies, client, app } = await startAgent(t)
  let served = 0
  app.server.on('request', () => { served++ })
  const body = JSON.stringify(copyOf('a', 'b'))
  for (let n = 0; n < 5; n++) {
    const socket = connect(port, '127.0.0.1')
    socket.on('error', () => {})
    const closed = once(socket, 'close')
    socket.write(`PUT /tasks/a${n} HTTP/1.1\r\nHost: evil.example\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`, () => { socket.resetAndDestroy() })
    await closed
    t.match((await client.get('/tasks')).list.items, Empty)
  }
  t.ok(served > 5, 'they were served')
  t.equal(bodies.all.length, 0)
})

t.test('a unix socket is out of a browser\'s reach: any Host will do there, a foreign Origin still not', async t => {
  const { app } = await startAgent(t)
  const path = join(await temporaryDirectory(t), 'a.sock')
  const server = await listenAlso(app, { path })
  const client = new HttpClient({ socketPath: path })
  t.teardown(() => {
    client.close()
    server.close()
  })
  for (const host of ['localhost', 'whatever.example']) t.equal((await client.get('/tasks', { host })).status, 200, host)
  isProblem(t, await client.get('/tasks', { host: 'localhost', origin: 'http://evil.example' }), 'origin-not-allowed')
})

t.test('a browser that says that a page of others asks is refused, unless somebody follows a link', async t => {
  const { client } = await startAgent(t)
  for (const site of ['cross-site', 'same-site']) {
    for (const mode of ['no-cors', 'cors', 'navigate']) isProblem(t, await client.get('/tasks', { 'sec-fetch-site': site, 'sec-fetch-mode': mode, 'sec-fetch-dest': mode === 'navigate' ? 'iframe' : 'image' }), 'origin-not-allowed', `${site} ${mode}`)
    t.equal((await client.get('/tasks', { 'sec-fetch-site': site, 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' })).status, 200)
    isProblem(t, await client.delete('/tasks/a', { 'sec-fetch-site': site, 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' }), 'origin-not-allowed')
  }
  for (const site of ['same-origin', 'none']) t.equal((await client.get('/tasks', { 'sec-fetch-site': site, 'sec-fetch-mode': 'cors' })).status, 200, site)
})

t.test('pages of the origins in the configuration may use the agent, without its cookie', async t => {
  const { client, bodies } = await startAgent(t, { server: { allowedOrigins: ['https://engine.example'] } })
  const origin = 'https://engine.example'
  const preflight = await client.send('OPTIONS', '/tasks/a', { headers: { origin, 'access-control-request-method': 'PUT', 'access-control-request-headers': 'if-match' } })
  t.match({ status: preflight.status, headers: preflight.headers }, {
    status: 204,
    headers: { 'access-control-allow-origin': origin, 'access-control-allow-methods': /PUT, PATCH, DELETE/, 'access-control-allow-headers': /authorization.*if-match/, vary: 'Origin' }
  })
  t.notOk('access-control-allow-credentials' in preflight.headers)
  const reply = await client.get('/tasks', { origin, 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'cors' })
  t.match({ status: reply.status, headers: reply.headers }, { status: 200, headers: { 'access-control-allow-origin': origin, 'access-control-expose-headers': /etag.*agent-instance/ } })
  const refusal = await client.get('/tasks/none', { origin })
  isProblem(t, refusal, 'task-not-found')
  t.equal(refusal.headers['access-control-allow-origin'], origin, 'it can read why')
  isProblem(t, await client.put('/tasks/a', copyOf('a', 'b'), { origin, cookie: '__Host-vdsm-tasks=x' }), 'origin-not-allowed')
  isProblem(t, await client.send('OPTIONS', '/tasks/a', { headers: { origin: 'https://evil.example', 'access-control-request-method': 'PUT' } }), 'origin-not-allowed')
  isProblem(t, await client.get('/tasks', { origin: 'http://engine.example' }), 'origin-not-allowed')
  t.equal(bodies.all.length, 0)
})
