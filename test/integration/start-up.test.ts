import { mkdir } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import type { Readiness } from '../../src/api/agent.ts'
import type { DomainStatus } from '../../src/api/domain.ts'
import { createApp, type Application } from '../../src/app.ts'
import { parseConfig } from '../../src/config.ts'
import { startAgent } from '../helpers/agent.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { silent } from '../helpers/http-agent.ts'
import { HttpClient } from '../helpers/http-client.ts'
import { until } from '../helpers/processes.ts'

t.setTimeout(120_000)

/** An agent that has just begun to listen, with so many new domains. */
async function startWith (t: Test, count: number): Promise<{ app: Application, client: HttpClient }> {
  const directory = await temporaryDirectory(t)
  const domains = Array.from({ length: count }, (_, at) => ({ id: `d${at}`, path: join(directory, `d${at}`), create: true }))
  for (const { path } of domains) await mkdir(path)
  const app = createApp(parseConfig({ domains, listen: { port: 0 } }, directory), silent)
  t.teardown(async () => { await app.stop() })
  const [address = ''] = await app.start()
  const client = new HttpClient({ host: '127.0.0.1', port: Number(new URL(address).port) })
  t.teardown(() => { client.close() })
  return { app, client }
}

t.test('the agent answers before its domains have started, and reads wait for them', async t => {
  const { app, client } = await startWith(t, 12)
  const ready = await client.get('/readyz')
  t.equal(ready.status, 503)
  t.strictSame(new Set((ready.json as Readiness).domains.map(({ state }) => state)), new Set(['starting']))
  t.match(await client.get('/domains/d11'), { status: 200, json: { domain: 'd11', state: 'starting', detail: String } })
  // each of these would be refused by a domain that is not there yet
  for (const path of ['images', 'copies', 'fixes']) {
    t.match(await client.get(`/domains/d11/${path}`), { status: 200, json: { items: Array } }, path)
  }
  t.match(await client.get('/domains/d11'), { json: { state: 'available' } })
  await app.prepared()
  const { items } = (await client.get('/domains')).json as { items: DomainStatus[] }
  t.strictSame(items.map(({ state }) => state), Array.from({ length: 12 }, () => 'available'))
  t.match(await client.get('/readyz'), { status: 200, json: { ready: true } })
})

t.test('a command that arrives before its domain is there waits for it', async t => {
  const { client } = await startWith(t, 6)
  const spec = { kind: 'storage.createImage', domain: 'd5', image: 'a.raw', virtualSize: 4096 }
  const reply = await client.put('/tasks/early', JSON.stringify(spec), { prefer: 'wait=60' })
  t.match(reply, { status: 202 })
  await until(async () => (await client.get('/tasks/early')).json.state === 'succeeded')
})

t.test('a thousand clients that come back at once are all taken', async t => {
  const agent = await startAgent(t, { domains: [] })
  process.kill(agent.pid, 'SIGSTOP')
  // on a socket of the file system, a connection beyond the backlog is refused at once
  const sockets = Array.from({ length: 1000 }, () => connect({ path: agent.socketPath }))
  t.teardown(() => { for (const socket of sockets) socket.destroy() })
  const answers = Promise.all(sockets.map(async socket => {
    await once(socket, 'connect')
    socket.write('GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n')
    return await text(socket)
  }))
  process.kill(agent.pid, 'SIGCONT')
  const found = await answers
  t.equal(found.filter(answer => answer.startsWith('HTTP/1.1 200 ')).length, 1000)
})
