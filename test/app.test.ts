import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { get as httpsGet } from 'node:https'
import { connect } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { createApp, type Application } from '../src/app.ts'
import { parseConfig, type Reread } from '../src/config.ts'
import { temporaryDirectory } from './helpers/directory.ts'
import { silent, turn, until } from './helpers/http-agent.ts'
import { HttpClient, isProblem, type Address, type Reply } from './helpers/http-client.ts'
import { secure } from './helpers/secured.ts'

/** The whole agent, listening, with a client for each of its addresses. */
async function start (t: Test, config: object, reread?: () => Reread): Promise<{ app: Application, addresses: string[], clients: HttpClient[], places: Address[] }> {
  const app = createApp(parseConfig({ domains: [], ...config }, await temporaryDirectory(t)), silent, reread)
  t.teardown(async () => { await app.stop() })
  const addresses = await app.start()
  await app.prepared()
  const places = addresses.map(placeOf)
  const clients = places.map(place => new HttpClient(place))
  t.teardown(() => { for (const client of clients) client.close() })
  return { app, addresses, clients, places }
}

function placeOf (address: string): Address {
  if (address.startsWith('unix:')) return { socketPath: address.slice('unix:'.length) }
  const { hostname, port } = new URL(address)
  return { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port) }
}

t.test('it listens wherever it was told to, and serves the same everywhere', async t => {
  const socket = join(await temporaryDirectory(t), 'a.sock')
  const { app, addresses, clients } = await start(t, { listen: [{ unix: socket }, { port: 0 }, { host: 'localhost', port: 0 }] })
  t.match(addresses, [`unix:${socket}`, /^http:\/\/127\.0\.0\.1:\d+$/, /^http:\/\/(127\.0\.0\.1|\[::1\]):\d+$/])
  for (const client of clients) t.match(await client.get('/agent'), { status: 200, json: { name: 'vdsm-tasks', instance: app.instance } })
})

t.test('who it is, and what its limits are, is what the configuration says', async t => {
  const { clients: [client] } = await start(t, { listen: { port: 0 }, hostId: 'n1', tasks: { retentionSeconds: 60, maxActive: 5, maxRetained: 50 }, copy: { maxConcurrent: 3 }, http: { maxBodyBytes: 2048, allowedHosts: ['node1.example'] } })
  const reply = await client?.get('/agent', { host: 'node1.example' })
  t.match(reply?.json, { hostId: 'n1', limits: { maxActive: 5, maxRetained: 50, maxConcurrentCopies: 3, retentionSeconds: 60, maxWaitSeconds: 60, maxBodyBytes: 2048 } })
  t.match(await client?.get('/healthz'), { status: 200, json: { status: 'alive' } })
  isProblem(t, await client?.put('/tasks/a', `"${'x'.repeat(3000)}"`) as Reply, 'body-too-large')
})

t.test('a listener that cannot be had fails the start, and what was begun can be stopped', async t => {
  const { addresses: [taken = ''] } = await start(t, { listen: { port: 0 } })
  const app = createApp(parseConfig({ domains: [], listen: [{ port: 0 }, { port: Number(new URL(taken).port) }] }, '/'), silent)
  await t.rejects(app.start(), { code: 'EADDRINUSE' })
  await app.stop()
  const never = createApp(parseConfig({ domains: [], listen: { port: Number(new URL(taken).port) } }, '/'), silent)
  await t.rejects(never.start(), { code: 'EADDRINUSE' })
  await never.stop()
})

t.test('an agent that never started can be stopped', async () => {
  await createApp(parseConfig({ domains: [] }, '/'), silent).stop()
})

t.test('a stop answers long polls on every listener, also while a stream takes its time to end', async t => {
  const directory = await temporaryDirectory(t)
  const { app, clients, places } = await start(t, { listen: [{ port: 0 }, { unix: join(directory, 'a.sock') }, { port: 0 }] })
  // a refusal is a record, too, and needs no storage
  const refused = await clients[0]?.put('/tasks/a', { kind: 'storage.createImage', domain: 'nowhere', image: 'a.raw', virtualSize: 512 }) as Reply
  isProblem(t, refused, 'domain-not-found')
  const { etag } = refused
  // one that never reads what it is sent
  const deaf = connect(places[0]?.port ?? 0, '127.0.0.1')
  await once(deaf, 'connect')
  deaf.pause()
  deaf.on('error', () => {})
  deaf.write('GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n')
  const polls = clients.map(async client => await client.get('/tasks/a', { prefer: 'wait=60', 'if-none-match': etag }))
  let open = 0
  await until(() => {
    app.http.server.getConnections((_error, count) => { open = count })
    return open >= 2
  })
  for (const client of clients) t.equal((await client.get('/healthz')).status, 200)
  await app.stop()
  for (const reply of await Promise.all(polls)) t.match(reply, { status: 304, headers: { etag, connection: 'close' } })
  deaf.destroy()
  for (const place of places) {
    const [error] = await once(connect({ ...place, path: place.socketPath ?? '' } as { path: string }), 'error')
    t.match(error.code, /^(ECONNREFUSED|ENOENT)$/, 'nobody listens there any more')
  }
})

t.test('a stop waits for the requests of every listener, until their time is up', async t => {
  for (const index of [0, 1]) {
    const { app, places } = await start(t, { listen: [{ port: 0 }, { port: 0 }] })
    const socket = connect(places[index]?.port ?? 0, '127.0.0.1')
    await once(socket, 'connect')
    socket.on('error', () => {})
    socket.resume()
    // half a request: it is cut off only at the end
    socket.write('GET /agent HTTP/1.1\r\nHost: localh')
    await app.stop()
    // what the server has closed the client sees in one of its next turns
    for (let n = 0; n < 1000 && !socket.closed; n++) await turn()
    t.equal(socket.closed, true, `on listener ${index}`)
  }
})

t.test('the authority of clients may come, and go, while the agent runs', async t => {
  const { config, tokens, clients: { allowed }, directory } = await secure(t)
  const { tls: { clientCa, ...tls } } = config.auth
  const listen = [{ port: 0, tls: true }, { port: 0, tls: true }]
  const withTokens = { ...config.auth, tls, clients: [] }
  let now: object = withTokens
  const { app, places } = await start(t, { listen, auth: withTokens }, () => {
    const next = parseConfig({ listen, domains: [], auth: now }, directory)
    return { config: next, auth: next.auth, problems: [] }
  })
  const pair = { ca: await readFile(clientCa), cert: await readFile(allowed.cert), key: await readFile(allowed.key) }
  for (const auth of [withTokens, config.auth, withTokens]) {
    now = auth
    t.match(await app.reload(), { state: 'current' })
    for (const { port } of places) {
      for (const [headers, status] of [[{}, auth === withTokens ? 401 : 200], [{ authorization: `Bearer ${tokens.read}` }, 200]] as const) {
        const request = httpsGet({ host: '127.0.0.1', port, path: '/tasks', agent: false, headers, ...pair })
        const [response] = await once(request, 'response')
        t.equal(response.statusCode, status)
        request.destroy()
      }
    }
  }
})

t.test('stopping twice is stopping once', async t => {
  const { app } = await start(t, { listen: [{ port: 0 }, { port: 0 }] })
  await Promise.all([app.stop(), app.stop()])
  await app.stop()
})

t.test('every error of every route is a problem, and every address tells its methods', async t => {
  const { app, clients: [client] } = await start(t, { listen: { port: 0 } })
  await app.http.ready()
  const document = (await client?.get('/openapi.json'))?.json as { paths: Record<string, Record<string, unknown>> }
  const methods = ['get', 'put', 'post', 'delete', 'patch', 'options', 'trace']
  for (const [path, operations] of Object.entries(document.paths)) {
    const address = path.replaceAll(/\{(\w+)\}/g, 'x')
    for (const method of methods.filter(method => !(method in operations))) {
      const reply = await client?.send(method.toUpperCase(), address) as Reply
      isProblem(t, reply, 'method-not-allowed', `${method} ${path}`)
      for (const taken of Object.keys(operations)) t.match(reply.headers.allow, new RegExp(`\\b${taken.toUpperCase()}\\b`))
    }
  }
  t.ok(Object.keys(document.paths).length > 10)
})
