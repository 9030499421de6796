import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import { join } from 'node:path'
import t from 'tap'
import { createApp } from '../../src/app.ts'
import { Credentials } from '../../src/auth/credentials.ts'
import { parseConfig } from '../../src/config.ts'
import { createServer } from '../../src/http/server.ts'
import type { Pair } from '../helpers/certificates.ts'
import { silent } from '../helpers/http-agent.ts'
import { secure } from '../helpers/secured.ts'

t.setTimeout(120_000)

const secured = await secure(t)
const { tokens, clients, authority } = secured
const app = createApp(parseConfig(secured.config, secured.directory), silent)
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
  ['GET', '/agent', 'read'],
  ['GET', '/agent/caller', 'read'],
  ['GET', '/agent/config', 'admin'],
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
  ['POST', '/logout', 'open'],
  // where nothing is, strangers are not told so
  ['GET', '/nothing', 'read'],
  ['POST', '/tasks', 'read'],
  ['TRACE', '/tasks/a', 'read']
]

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

t.test('the table has every route that the document has', async t => {
  const reply = await app.http.inject({ url: '/openapi.json', headers: { host: 'localhost', authorization: `Bearer ${tokens.read}` } })
  const documented = Object.entries((reply.json() as { paths: Record<string, object> }).paths).flatMap(([path, methods]) => Object.keys(methods).map(method => `${method.toUpperCase()} ${path.replaceAll(/\{\w+\}/g, '*')}`))
  const here = new Set(routes.map(([method, path]) => `${method} ${path.replace(/^(\/tasks|\/domains|\/gluster\/operations)\/[^/]+/, '$1/*').replace(/images\/.+/, 'images/*')}`))
  t.ok(documented.length > 18)
  for (const route of documented) t.ok(here.has(route), route)
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
        const got = path === '/logout' || ![401, 403].includes(statusCode) ? 'passes' : statusCode
        if (got !== expected) wrong.push(`${method} ${path}: ${statusCode}, expected ${expected}`)
        if (statusCode === 401 && headers['www-authenticate']?.startsWith('Bearer ') !== true) wrong.push(`${method} ${path}: 401 without a challenge`)
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
