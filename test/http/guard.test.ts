import { once } from 'node:events'
import { connect } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { listenAlso } from '../../src/http/server.ts'
import { copyOf, startAgent } from '../helpers/http-agent.ts'
import { exchange, HttpClient, isProblem, parseReply } from '../helpers/http-client.ts'
import { temporaryDirectory } from '../helpers/directory.ts'

t.test('a Host that names loopback is allowed, any other name is not', async t => {
  const { client, port } = await startAgent(t, { server: { allowedHosts: ['node1.example', 'Node2'] } })
  for (const host of ['localhost', 'localhost:7480', 'LOCALHOST:1', '127.0.0.1', '127.0.0.1:80', '127.1.2.3', '[::1]', '[::1]:7480', 'node1.example', 'NODE1.example:7480', 'node2']) {
    t.equal((await client.get('/tasks', { host })).status, 200, host)
  }
  for (const host of ['evil.example', 'evil.example:7480', 'localhost.evil.example', 'evil.localhost', '127.0.0.1.evil.example', '128.0.0.1', '10.0.0.1', '0.0.0.0', '[::]', '[::2]:7480', '::1', 'node1.example.evil', 'localhost:80:80', 'localhost@evil.example', 'localhost, evil.example']) {
    const reply = await client.get('/tasks', { host })
    isProblem(t, reply, 'host-not-allowed', host)
  }
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
    t.match((await client.get('/tasks')).list.items, [])
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
