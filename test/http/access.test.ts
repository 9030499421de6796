import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import { connect } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { createApp } from '../../src/app.ts'
import { Credentials } from '../../src/auth/credentials.ts'
import { parseConfig } from '../../src/config.ts'
import { createServer } from '../../src/http/server.ts'
import type { Pair } from '../helpers/certificates.ts'
import { Empty } from '../helpers/empty.ts'
import { silent } from '../helpers/http-agent.ts'
import { secure } from '../helpers/secured.ts'

t.setTimeout(120_000)

const secured = await secure(t)
const { tokens, clients, authority } = secured
const app = createApp(parseConfig(secured.config, secured.directory), silent)
/** Every route as Fastify knows it, those of plugins and those that are in no document, too. */
const registered: string[] = []
app.http.addHook('onRoute', ({ method, url }) => { registered.push(...[method].flat().map(one => `${one} ${url}`)) })
t.teardown(async () => { await app.stop() })
const [tlsAddress = '', tcpAddress = ''] = await app.start()
await app.prepared()

/** Every route there is, and what it needs. Written down here a second time: the code must not decide what is right. */
const routes: Array<[method: string, path: string, needs: 'open' | 'read' | 'operate' | 'admin']> = [
  ['GET', '/tasks', 'read'],
  ['GET', '/tasks/a', 'read'],
  ['PUT', '/tasks/a', 'operate'],
  ['PATCH', '/tasks/a', 'operate'],
  ['DELETE', '/tasks/a', 'operate'],
  ['GET', '/tasks/a/events', 'read'],
  ['GET', '/events', 'read'],
  ['GET', '/domains', 'read'],
  ['GET', '/domains/local', 'read'],
  ['GET', '/domains/local/images', 'read'],
  ['GET', '/domains/local/images/a.raw', 'read'],
  ['GET', '/domains/local/copies', 'read'],
  ['GET', '/domains/local/fixes', 'read'],
  ['GET', '/gluster/volumes', 'read'],
  ['GET', '/gluster/operations', 'read'],
  ['GET', '/gluster/operations/6a9e0a62-0c2c-4c5e-8f29-5a1d0c1e2f3a', 'read'],
  ['PATCH', '/gluster/operations/6a9e0a62-0c2c-4c5e-8f29-5a1d0c1e2f3a', 'operate'],
  ['GET', '/agent', 'read'],
  ['GET', '/agent/caller', 'read'],
  ['GET', '/agent/config', 'admin'],
  ['POST', '/agent/reload', 'admin'],
  ['GET', '/healthz', 'open'],
  ['GET', '/readyz', 'read'],
  ['GET', '/metrics', 'read'],
  ['GET', '/openapi.json', 'read'],
  ['GET', '/docs', 'read'],
  ['GET', '/docs/', 'read'],
  ['GET', '/docs/json', 'read'],
  ['GET', '/docs/yaml', 'read'],
  ['GET', '/docs/static/index.html', 'read'],
  ['GET', '/docs/static/index.css', 'read'],
  ['GET', '/docs/static/swagger-initializer.js', 'read'],
  ['GET', '/', 'read'],
  ['GET', '/index.html', 'read'],
  ['GET', '/page.js', 'read'],
  ['GET', '/style.css', 'read'],
  ['GET', '/login', 'open'],
  ['POST', '/login', 'open'],
  ['POST', '/logout', 'open'],
  // where nothing is, strangers are not told so
  ['GET', '/nothing', 'read'],
  ['POST', '/tasks', 'read'],
  ['TRACE', '/tasks/a', 'read']
]

/** The addresses of which each is a route of its own in Fastify. */
const withParameters: Array<[address: RegExp, route: string]> = [
  [/^\/tasks\/[^/]+/, '/tasks/:id'],
  [/^\/domains\/[^/]+\/images\/.+/, '/domains/:domain/images/:image'],
  [/^\/domains\/[^/]+/, '/domains/:domain'],
  [/^\/gluster\/operations\/.+/, '/gluster/operations/:operationId'],
  // the reference, an application of its own
  [/^\/docs\/.*/, '/docs/*']
]
const routeOf = (path: string) => withParameters.reduce((path, [address, route]) => path.replace(address, route), path)

interface Credential {
  token?: string
  pair?: Pair
  cookie?: string
  authorization?: string
  /** What it gives over TLS and TCP, or the status it is refused with. */
  is: 'read' | 'operate' | 'admin' | 401 | 403
  /** Over a unix socket who brings no token is trusted. */
  unix?: 'admin'
}

const credentials: Record<string, Credential> = {
  none: { is: 401, unix: 'admin' },
  'a wrong token': { token: `vdsmt_${'A'.repeat(43)}`, is: 401 },
  'no token at all': { authorization: 'Bearer', is: 401 },
  'a password': { authorization: `Basic ${Buffer.from('admin:admin').toString('base64')}`, is: 401 },
  'an expired token': { token: tokens.expired, is: 401 },
  'a read token': { token: tokens.read, is: 'read' },
  'an operate token': { token: tokens.operate, is: 'operate' },
  'an admin token': { token: tokens.admin, is: 'admin' },
  'a made up session': { cookie: `__Host-vdsm-tasks=${'A'.repeat(43)}`, is: 401, unix: 'admin' },
  'an allowed certificate': { pair: clients.allowed, is: 'operate' },
  'an allowed certificate and a read token': { pair: clients.allowed, token: tokens.read, is: 'read' },
  'a certificate of a stranger': { pair: clients.stranger, is: 403 },
  'an expired certificate': { pair: clients.expired, is: 401 },
  'a certificate of another authority': { pair: clients.foreign, is: 401 },
  'a certificate for servers': { pair: clients.server, is: 401 }
}

const ranks = ['open', 'read', 'operate', 'admin']

/** Connections are kept for the next request: a handshake costs more than all the rest. */
const agents = new Map<string, HttpAgent | HttpsAgent>()

function agentFor (transport: 'tls' | 'tcp' | 'unix', pair: Pair | undefined): HttpAgent | HttpsAgent {
  const key = `${transport} ${pair?.cert}`
  const known = agents.get(key)
  if (known !== undefined) return known
  const pem = pair !== undefined && { cert: readFileSync(pair.cert), key: readFileSync(pair.key) }
  const agent = transport === 'tls' ? new HttpsAgent({ keepAlive: true, maxSockets: 4, ca: readFileSync(authority.cert), ...pem }) : new HttpAgent({ keepAlive: true, maxSockets: 4 })
  agents.set(key, agent)
  return agent
}
t.teardown(() => { for (const agent of agents.values()) agent.destroy() })

/** Sends a request and returns its reply; nobody waits for the end of a stream. */
async function statusOf (transport: 'tls' | 'tcp' | 'unix', method: string, path: string, { token, authorization = token === undefined ? undefined : `Bearer ${token}`, cookie, pair }: Credential): Promise<IncomingMessage> {
  const headers = { host: 'localhost', ...authorization !== undefined && { authorization }, ...cookie !== undefined && { cookie, origin: 'https://localhost' } }
  const agent = agentFor(transport, pair)
  const sent = transport === 'tls'
    ? httpsRequest(`${tlsAddress}${path}`, { method, headers, agent })
    : httpRequest({ method, path, headers, agent, ...transport === 'tcp' ? { port: new URL(tcpAddress).port } : { socketPath: join(secured.directory, 'a.sock') } })
  sent.end()
  const [response] = await once(sent, 'response') as [IncomingMessage]
  response.on('error', () => {})
  if (response.headers['content-type']?.startsWith('text/event-stream') === true) response.destroy()
  else response.resume()
  return response
}

t.test('the table has every route that there is', async t => {
  const here = new Set(routes.map(([method, path]) => `${method} ${routeOf(path)}`))
  const missing = registered.filter(route => !here.has(route) && !here.has(route.replace(/^HEAD /, 'GET ')))
  t.ok(registered.length > 50, `${registered.length} routes`)
  // every file of the page is a route; they come from one folder, and all need the same
  t.same(missing.filter(route => !/^(GET|HEAD) \/[a-z-]+\.(js|svg|css|html)$/.test(route)), [])
  t.same([...here].filter(route => !registered.includes(route)), ['GET /nothing', 'POST /tasks', 'TRACE /tasks/:id'], 'and none that there is not')
})

/** Sends bytes to the port without TLS and gives the status of each answer. */
async function statusesOf (bytes: string): Promise<number[]> {
  const socket = connect(Number(new URL(tcpAddress).port), '127.0.0.1')
  let got = ''
  socket.setEncoding('latin1').on('data', (text: string) => { got += text }).on('error', () => {})
  socket.write(bytes, 'latin1')
  await once(socket, 'close')
  return [...got.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => Number(status)).filter(status => status !== 100)
}

/** How else an address can be written, or a request be dressed up; none of them gets what its plain form does not get. */
const disguises: Array<[what: string, line: (method: string, path: string) => string, headers?: string]> = [
  ['in percent-encoding', (method, path) => `${method} /%${path.charCodeAt(1).toString(16)}${path.slice(2)} HTTP/1.1`],
  ['with a slash at the end', (method, path) => `${method} ${path}/ HTTP/1.1`],
  ['with two slashes', (method, path) => `${method} /${path} HTTP/1.1`],
  ['with dots', (method, path) => `${method} /docs/..${path} HTTP/1.1`],
  ['with encoded dots', (method, path) => `${method} /login/%2e%2e${path} HTTP/1.1`],
  ['below an open one', (method, path) => `${method} /healthz/..%2f${path.slice(1)} HTTP/1.1`],
  ['in capitals', (method, path) => `${method} ${path.toUpperCase()} HTTP/1.1`],
  ['with a parameter', (method, path) => `${method} ${path};x=/healthz HTTP/1.1`],
  ['with a query', (method, path) => `${method} ${path}?/healthz HTTP/1.1`],
  ['with a fragment', (method, path) => `${method} ${path}#/healthz HTTP/1.1`],
  ['in absolute form', (method, path) => `${method} http://localhost${path} HTTP/1.1`],
  ['in absolute form of another scheme', (method, path) => `${method} HTTPS://LOCALHOST${path} HTTP/1.1`],
  ['as HTTP/1.0', (method, path) => `${method} ${path} HTTP/1.0`],
  ['as HEAD', (_method, path) => `HEAD ${path} HTTP/1.1`],
  ['as OPTIONS', (_method, path) => `OPTIONS ${path} HTTP/1.1`],
  ['as POST that says it is another', (method, path) => `POST ${path}?_method=${method} HTTP/1.1`, 'X-HTTP-Method-Override: PUT\r\n'],
  ['as GET that says it is another', (_method, path) => `GET ${path} HTTP/1.1`, 'X-HTTP-Method-Override: DELETE\r\nX-Original-URL: /healthz\r\nX-Rewrite-URL: /healthz\r\n'],
  ['as if a proxy had let it in', (method, path) => `${method} ${path} HTTP/1.1`, 'X-Forwarded-For: 127.0.0.1\r\nForwarded: for=127.0.0.1\r\nX-Real-IP: 127.0.0.1\r\nX-Remote-User: admin\r\n'],
  ['as an upgrade', (method, path) => `${method} ${path} HTTP/1.1`, 'Upgrade: websocket\r\nSec-WebSocket-Key: x\r\n'],
  ['with an expectation', (method, path) => `${method} ${path} HTTP/1.1`, 'Expect: 100-continue\r\n'],
  ['of no known method', (_method, path) => `FROB ${path} HTTP/1.1`],
  ['of a method that WebDAV knows', (_method, path) => `PROPFIND ${path} HTTP/1.1`]
]

t.test('no other way to write a request gets round the table', async t => {
  const read = `Authorization: Bearer ${tokens.read}\r\n`
  for (const [what, line, headers = ''] of disguises) {
    const wrong: string[] = []
    await Promise.all(routes.filter(([, , needs]) => needs !== 'open').map(async ([method, path, needs]) => {
      for (const credential of needs === 'read' ? [''] : ['', read]) {
        const statuses = await statusesOf(`${line(method, path)}\r\nHost: localhost\r\nConnection: close\r\n${headers}${credential}\r\n`)
        // a HEAD of what only reads may come through with the token that may read; so may what is another address
        const harmless = credential === '' ? [400, 401, 403] : [400, 403, 404, 405, ...needs === 'operate' ? [200, 204, 304] : [], ...path.startsWith('/gluster') ? [503, 504] : []]
        if (statuses.length !== 1 || !harmless.includes(statuses[0] ?? 0)) wrong.push(`${method} ${path} ${credential === '' ? 'without' : 'with'} a token: ${statuses.join()}`)
      }
    }))
    t.same(wrong, [], what)
  }
  t.match(await (await fetch(`${tcpAddress}/tasks`, { headers: { authorization: `Bearer ${tokens.read}` } })).json(), { items: Empty })
})

t.test('a request is for one host, and one that is ours', async t => {
  const ask = async (target: string, ...hosts: string[]) => await statusesOf(`GET ${target} HTTP/1.1\r\n${hosts.map(host => `Host: ${host}\r\n`).join('')}Connection: close\r\nAuthorization: Bearer ${tokens.read}\r\n\r\n`)
  t.same(await ask('/agent', 'localhost'), [200])
  t.same(await ask('http://localhost/agent', 'localhost'), [200])
  t.same(await ask('http://localhost/agent', 'evil.example'), [200], 'the address goes before the header')
  t.same(await ask('/agent'), [403])
  for (const hosts of [['localhost', 'evil.example'], ['evil.example', 'localhost'], ['localhost', 'localhost']]) t.same(await ask('/agent', ...hosts), [400], hosts.join())
  for (const target of ['http://evil.example/agent', 'https://evil.example/agent', 'http://localhost@evil.example/agent', 'http://evil.example#localhost/agent', 'http:///agent', 'HTTP://evil.example/agent']) {
    const [status = 0] = await ask(target, 'localhost')
    t.ok([400, 403].includes(status), `${target}: ${status}`)
  }
})

for (const transport of ['tls', 'tcp', 'unix'] as const) {
  t.test(`who may do what, over ${transport}`, async t => {
    for (const [name, credential] of Object.entries(credentials)) {
      if (credential.pair !== undefined && transport !== 'tls') continue
      const is = transport === 'unix' ? credential.unix ?? credential.is : credential.is
      const wrong: string[] = []
      await Promise.all(routes.map(async ([method, path, needs]) => {
        const expected = needs === 'open' ? 'passes' : typeof is === 'number' ? is : ranks.indexOf(is) >= ranks.indexOf(needs) ? 'passes' : 403
        const { statusCode = 0, headers } = await statusOf(transport, method, path, credential)
        const got = path === '/logout' || path === '/login' || ![401, 403].includes(statusCode) ? 'passes' : statusCode
        if (got !== expected) wrong.push(`${method} ${path}: ${statusCode}, expected ${expected}`)
        if (statusCode === 401 && path !== '/login' && headers['www-authenticate']?.startsWith('Bearer ') !== true) wrong.push(`${method} ${path}: 401 without a challenge`)
        if (statusCode >= 500 && !path.startsWith('/gluster')) wrong.push(`${method} ${path}: ${statusCode}`)
      }))
      t.strictSame(wrong, [], name)
    }
  })
}

t.test('every response forbids what a browser could do with it', async t => {
  for (const [method, path] of routes) {
    const { headers } = await statusOf('tcp', method, path, { token: tokens.admin, is: 'admin' })
    t.match(headers, { 'content-security-policy': /default-src '(none|self)'/, 'x-content-type-options': 'nosniff', 'agent-instance': /./ }, `${method} ${path}`)
    t.notOk('access-control-allow-origin' in headers)
  }
})

t.test('a route that does not say what it needs fails the start', async t => {
  const server = createServer({ log: silent, instance: 'feedfacecafe', allowedHosts: [], maxBodyBytes: 1024, credentials: new Credentials({ clients: [] }) })
  server.get('/said', { config: { scope: 'read' } }, async () => 'said')
  server.get('/forgotten', async () => 'forgotten')
  await t.rejects(async () => { await server.ready() }, { message: /these routes do not say which scope they need: GET \/forgotten, HEAD \/forgotten/ })
})

t.test('the certificate of the agent names it, so those names need not be configured', async t => {
  const overTcp = async (host: string) => {
    const sent = httpRequest({ port: new URL(tcpAddress).port, path: '/tasks', headers: { host, authorization: `Bearer ${tokens.read}` }, agent: false }).end()
    const [response] = await once(sent, 'response') as [IncomingMessage]
    response.destroy()
    return response.statusCode
  }
  t.equal(await overTcp('node1.example:7480'), 200)
  t.equal(await overTcp('node2.example:7480'), 403)
})
