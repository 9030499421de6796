import { getEventListeners, once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { Credentials } from '../../src/auth/credentials.ts'
import type { Scope } from '../../src/auth/scope.ts'
import { lineOf } from '../../src/auth/token-file.ts'
import { makeToken } from '../../src/auth/token.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { copyOf, startAgent, until } from '../helpers/http-agent.ts'
import { isProblem, type Reply } from '../helpers/http-client.ts'
import { drive } from '../helpers/http-states.ts'

const createdAt = new Date()

/** An agent that knows two tokens, until the test takes one back. */
async function start (t: Test) {
  const tokensFile = join(await temporaryDirectory(t), 'tokens')
  const [mine, theirs] = [makeToken(), makeToken()]
  const config = { tokensFile, clients: [] }
  const write = async (scope: Scope | 'none', expiresAt?: Date) => {
    await writeFile(tokensFile, [
      ...scope === 'none' ? [] : [lineOf(mine, { name: 'mine', scope, createdAt, ...expiresAt !== undefined && { expiresAt } })],
      lineOf(theirs, { name: 'theirs', scope: 'operate', createdAt })
    ].join('\n'))
  }
  await write('operate')
  const credentials = new Credentials(config)
  const agent = await startAgent(t, { server: { credentials, allowedOrigins: ['https://console.example'] } })
  const waiting = async (count: number) => { await until(() => getEventListeners(agent.registry.stopping, 'abort').length === count) }
  /** From now on the first token is worth this, as after a SIGHUP. */
  const become = async (scope: Scope | 'none', expiresAt?: Date) => {
    await write(scope, expiresAt)
    credentials.reload(config)
    await agent.standing?.recheck()
  }
  return { ...agent, credentials, become, waiting, token: mine, mine: { authorization: `Bearer ${mine}` }, theirs: { authorization: `Bearer ${theirs}` } }
}

const isRefused = (t: Test, reply: Reply, what?: string) => {
  isProblem(t, reply, 'credentials-invalid', what)
  t.equal(reply.headers['www-authenticate'], 'Bearer realm="vdsm-tasks", error="invalid_token"')
}

t.test('who waits and loses the right to the answer is refused at once; others wait on', async t => {
  const agent = await start(t)
  const run = await drive(agent, 'a', copyOf('a.raw', 'b.raw'), 'running')
  const wait = async (headers: object) => await agent.client.get('/tasks/a', { prefer: 'wait=60', ...headers })
  const polls = [wait(agent.mine), wait({ ...agent.mine, 'if-none-match': run.etag })]
  const other = wait(agent.theirs)
  await agent.waiting(3)
  await agent.become('read')
  await agent.waiting(3)
  await agent.become('none')
  for (const poll of polls) isRefused(t, await poll)
  await agent.waiting(1)
  await (await agent.bodies.of('a')).succeed()
  t.match(await other, { status: 200, task: { state: 'succeeded' } })
})

t.test('a session that ends, and a token whose time is over, end what waits with them', async t => {
  const agent = await start(t)
  await drive(agent, 'a', copyOf('a.raw', 'b.raw'), 'running')
  const { key } = agent.credentials.logIn(agent.token)
  const bySession = agent.client.get('/tasks/a', { prefer: 'wait=60', cookie: `__Host-vdsm-tasks=${key}` })
  const byToken = agent.client.get('/tasks/a', { prefer: 'wait=60', ...agent.mine })
  await agent.waiting(2)
  agent.credentials.logOut(key)
  await agent.standing?.recheck(key)
  isProblem(t, await bySession, 'unauthenticated')
  await agent.waiting(1)
  await agent.become('operate', new Date(Date.now() + 500))
  isRefused(t, await byToken, 'nobody had to look again')
})

t.test('a PUT that waits is answered at once with what became of it', async t => {
  const agent = await start(t)
  const put = agent.client.put('/tasks/a', copyOf('a.raw', 'b.raw'), { prefer: 'wait=60', ...agent.mine })
  await agent.waiting(1)
  await agent.become('none')
  t.match(await put, { status: 202, task: { id: 'a', state: 'pending' } }, 'a refusal would say that nothing was done')
  isRefused(t, await agent.client.put('/tasks/a', copyOf('a.raw', 'b.raw'), agent.mine))
})

t.test('a command whose body comes after its sender has lost the right to it is not carried out', async t => {
  const agent = await start(t)
  const command = JSON.stringify(copyOf('a.raw', 'b.raw'))
  for (const [scope, status] of [['read', 403], ['none', 401]] as const) {
    await agent.become('operate')
    const socket = connect(agent.port, '127.0.0.1')
    const requested = once(agent.app.server, 'request')
    socket.write(`PUT /tasks/slow HTTP/1.1\r\nHost: localhost\r\nAuthorization: ${agent.mine.authorization}\r\nContent-Type: application/json\r\nContent-Length: ${command.length}\r\nConnection: close\r\n\r\n${command.slice(0, 10)}`)
    await requested
    await agent.become(scope)
    socket.write(command.slice(10))
    let got = ''
    for await (const chunk of socket.setEncoding('utf8')) got += String(chunk)
    t.match(got, new RegExp(`^HTTP/1.1 ${status} `), scope)
  }
  t.equal(agent.bodies.all.length, 0)
})

t.test('an answer that depends on Origin and on Prefer says both', async t => {
  const agent = await start(t)
  await drive(agent, 'a', copyOf('a.raw', 'b.raw'), 'running')
  const origin = 'https://console.example'
  for (const prefer of ['wait=0', 'respond-async']) {
    t.match(await agent.client.get('/tasks/a', { origin, prefer, ...agent.mine }), { status: 200, headers: { vary: 'Origin, Prefer', 'access-control-allow-origin': origin } })
  }
})
