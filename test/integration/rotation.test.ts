import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { appendFile, chmod, copyFile, readFile, stat, writeFile } from 'node:fs/promises'
import { get as httpsGet, request as httpsRequest } from 'node:https'
import { connect, type TLSSocket } from 'node:tls'
import { join } from 'node:path'
import t from 'tap'
import { lineOf } from '../../src/auth/token-file.ts'
import { makeToken } from '../../src/auth/token.ts'
import { Authority, forClients, forThisHost } from '../helpers/certificates.ts'
import { runCommand } from '../helpers/command-line.ts'
import { startServe } from '../helpers/serve.ts'
import { secure } from '../helpers/secured.ts'
import { until } from '../helpers/processes.ts'

t.setTimeout(120_000)

const secured = await secure(t)
const { tokens, tokensFile, server, clients, authority, directory } = secured
const agent = await startServe(t, directory, secured.config)
const [secureUrl = '', plainUrl = ''] = agent.addresses
const port = Number(new URL(secureUrl).port)
const ca = readFileSync(authority.cert)

const ask = async (token: string) => (await fetch(`${plainUrl}/tasks`, { headers: { authorization: `Bearer ${token}` } })).status
const hangUp = async (says: RegExp) => {
  const before = agent.said().length
  process.kill(agent.pid, 'SIGHUP')
  await until(() => says.test(agent.said().slice(before)), `the log says ${says}`)
}

/** The serial number of the certificate that a new connection gets. */
async function served (): Promise<string> {
  const socket: TLSSocket = connect({ port, host: '127.0.0.1', ca: [ca], servername: 'localhost' })
  await once(socket, 'secureConnect')
  const { serialNumber } = socket.getPeerCertificate()
  socket.destroy()
  return serialNumber
}

/** Opens the stream of events and tells what it has received so far. */
async function follow (credential: object): Promise<{ text: () => string, ended: () => boolean, end: () => void }> {
  const request = httpsGet(`${secureUrl}/events`, { ca, agent: false, ...credential })
  const [response] = await once(request, 'response')
  let text = ''
  let ended = false
  response.setEncoding('utf8').on('data', (more: string) => { text += more }).on('close', () => { ended = true }).on('error', () => {})
  await until(() => text.includes('event: synced'), 'the stream has begun')
  return { text: () => text, ended: () => ended, end: () => { request.destroy() } }
}

t.test('tokens and certificates are changed while streams are open, and only those end whose callers lost the right to them', async t => {
  const byToken = await follow({ headers: { authorization: `Bearer ${tokens.operate}` } })
  const takenBack = await follow({ headers: { authorization: `Bearer ${tokens.read}` } })
  const byCertificate = await follow({ cert: readFileSync(clients.allowed.cert), key: readFileSync(clients.allowed.key) })

  const fresh = makeToken()
  const lines = (await readFile(tokensFile, 'utf8')).split('\n').filter(line => !line.includes('the-read'))
  await writeFile(tokensFile, [...lines, lineOf(fresh, { name: 'fresh', scope: 'operate', createdAt: new Date() }), ''].join('\n'))
  const before = await served()
  const next = await authority.issue('next', { extensions: forThisHost })
  await copyFile(next.cert, server.cert)
  await copyFile(next.key, server.key)
  t.equal(await ask(fresh), 401, 'not before the signal')
  t.equal(await ask(tokens.read), 200)
  await hangUp(/was read again/)
  t.equal(await ask(fresh), 200)
  t.equal(await ask(tokens.read), 401, 'a token that was taken back opens nothing any more')
  t.equal(await ask(tokens.admin), 200, 'the others are as good as before')
  await until(() => takenBack.ended(), 'the stream of the token that was taken back to end')
  await until(() => agent.said().includes('the-read: the stream /events was ended: credentials-invalid'), 'a line in the log')
  t.not(await served(), before, 'a new connection gets the new certificate')

  const reply = await fetch(`${plainUrl}/tasks/after-rotation`, { method: 'PUT', headers: { authorization: `Bearer ${fresh}`, prefer: 'wait=20', 'content-type': 'application/json' }, body: JSON.stringify({ kind: 'storage.createImage', domain: 'local', image: 'a.raw', virtualSize: 1024 * 1024 }) })
  t.equal(reply.status, 202)
  for (const [name, stream] of Object.entries({ byToken, byCertificate })) {
    await until(() => stream.text().includes('after-rotation'), `${name} tells of the task`)
    t.notOk(stream.ended(), name)
    stream.end()
  }
})

t.test('a line that is broken keeps no other token in or out, and a key that does not fit leaves the old pair in force', async t => {
  const good = await readFile(tokensFile, 'utf8')
  await appendFile(tokensFile, 'rubbish\n')
  await hangUp(/cannot be put in force as it is: the tokens in .*line \d+: is not JSON/)
  t.equal(await ask(tokens.admin), 200)
  await writeFile(tokensFile, good)
  const key = await readFile(server.key)
  await copyFile(clients.stranger.key, server.key)
  await hangUp(/the key in .* is not that of the certificate/)
  t.ok(await served())
  await writeFile(server.key, key)
})

t.test('an authority that is not trusted any more ends old connections, too', async t => {
  const socket = connect({ port, host: '127.0.0.1', ca: [ca], servername: 'localhost', cert: readFileSync(clients.allowed.cert), key: readFileSync(clients.allowed.key) })
  const [session] = await once(socket, 'session') as [Buffer]
  let text = ''
  socket.setEncoding('utf8').on('data', (more: string) => { text += more })
  const stream = await follow({ cert: readFileSync(clients.allowed.cert), key: readFileSync(clients.allowed.key) })
  const poll = httpsRequest(`${secureUrl}/tasks/after-rotation`, { ca, agent: false, cert: readFileSync(clients.allowed.cert), key: readFileSync(clients.allowed.key), headers: { prefer: 'wait=60', 'if-none-match': '*' } }).end()
  const answered = once(poll, 'response')
  const trusted = await readFile(authority.cert)
  const other = await Authority.make(join(directory, 'new-authority'))
  await copyFile(other.cert, authority.cert)
  await hangUp(/was read again/)
  await until(() => stream.ended(), 'the stream of a client of the old one to end')
  t.equal((await answered)[0].statusCode, 401, 'nor does he wait any longer')
  poll.destroy()
  socket.write('GET /tasks HTTP/1.1\r\nHost: localhost\r\n\r\n')
  await until(() => text !== '', 'an answer')
  t.match(text, /^HTTP\/1.1 401 /)
  socket.destroy()
  const resumed = connect({ port, host: '127.0.0.1', ca: [ca], servername: 'localhost', cert: readFileSync(clients.allowed.cert), key: readFileSync(clients.allowed.key), session })
  let again = ''
  resumed.setEncoding('utf8').on('data', (more: string) => { again += more })
  resumed.write('GET /tasks HTTP/1.1\r\nHost: localhost\r\n\r\n')
  await until(() => again !== '', 'an answer')
  t.match(again, /^HTTP\/1.1 401 /, 'nor does a session help that was begun before')
  resumed.destroy()
  const engine = await other.issue('engine.example', { extensions: forClients })
  const sent = httpsRequest(`${secureUrl}/tasks`, { ca: trusted, agent: false, cert: readFileSync(engine.cert), key: readFileSync(engine.key) }).end()
  const [response] = await once(sent, 'response')
  t.equal(response.statusCode, 200, 'clients of the new one are let in')
  response.destroy()
})

t.test('files that every user may write, or keys that every user may read, are not taken', async t => {
  for (const [file, mode, says] of [[tokensFile, 0o666, /every user of this host may write .*tokens/], [server.key, 0o644, /every user of this host may read .*server\.key/], [server.cert, 0o646, /may write .*server\.pem/]] as const) {
    const { mode: before } = await stat(file)
    await chmod(file, mode)
    await hangUp(says)
    t.equal(await ask(tokens.admin), file === tokensFile ? 401 : 200, 'whoever can write it could have added the token')
    await chmod(file, before)
    await hangUp(/was read again/)
  }
  t.equal(await ask(tokens.admin), 200)
})

t.test('a configuration that would open the listeners there are is not taken', async t => {
  const good = await readFile(agent.config, 'utf8')
  const { auth: _, ...config } = JSON.parse(good) as Record<string, unknown>
  // what is said of listeners takes a restart; without this, everybody who reaches the old ones would be an administrator
  await writeFile(agent.config, JSON.stringify({ ...config, listen: { host: '127.0.0.1', port: 0 } }))
  await hangUp(/authentication ends only with a restart/)
  t.equal(await ask('nonsense'), 401)
  t.equal(await ask(tokens.admin), 401, 'a token that nothing lists')
  await writeFile(agent.config, good)
  await hangUp(/was read again/)
})

t.test('no core dump is made, in which keys could be', async t => {
  t.match(await readFile(`/proc/${agent.pid}/limits`, 'utf8'), /^Max core file size +0 +0 /m)
})

t.test('every change and every refusal is in the log, and no token is', async t => {
  const said = agent.said()
  const lines = said.split('\n').filter(line => line.startsWith('{')).map(line => JSON.parse(line) as Record<string, unknown>).filter(line => 'audit' in line)
  t.ok(lines.some(line => line['audit'] === 'change' && line['who'] === 'fresh' && line['path'] === '/tasks/after-rotation' && line['status'] === 202 && line['from'] === '127.0.0.1' && (line['command'] as { image: string }).image === 'a.raw'))
  t.ok(lines.some(line => line['audit'] === 'refusal' && line['status'] === 401 && line['code'] === 'credentials-invalid'))
  t.notMatch(said, /vdsmt_/)
  t.notMatch(said, /PRIVATE KEY/)
})

t.test('vdsm-tasks makes tokens that the agent takes, and reaches it over TLS', async t => {
  const made = await runCommand(t, ['token', 'create', '--scope', 'read', '--config', agent.config])
  t.match(made, { status: 0, stdout: /^vdsmt_[\w-]{43}\n$/ })
  const tokenFile = join(directory, 'mine.token')
  await writeFile(tokenFile, made.stdout)
  t.match(await runCommand(t, ['token', 'list', '--file', tokensFile]), { status: 0, stdout: /read-1 +read +never/ })
  const fresh = join(directory, 'fresh-tokens')
  t.match(await runCommand(t, ['token', 'create', '--scope', 'admin', '--name', 'a', '--days', '1', '--json', '--file', fresh]), { status: 0, stdout: /"token":"vdsmt_/ })
  t.equal((await stat(fresh)).mode & 0o777, 0o600)
  t.match(await runCommand(t, ['token', 'create', '--scope', 'admin', '--name', 'a', '--file', fresh]), { status: 2, stderr: /called a already/ })
  await hangUp(/was read again/)
  // its certificate is still that of the first authority
  const old = join(directory, 'old-ca.pem')
  await writeFile(old, ca)
  const reach = ['--url', secureUrl.replace('127.0.0.1', 'localhost'), '--token-file', tokenFile]
  t.match(await runCommand(t, [...reach, '--ca-file', old, 'info']), { status: 0, stdout: /version/ })
  t.match(await runCommand(t, [...reach, 'info']), { status: 3 })
  t.match(await runCommand(t, [...reach, '--ca-file', old, 'create', 'local/b.raw', '1M']), { status: 1, stderr: /needs operate/ })
})
