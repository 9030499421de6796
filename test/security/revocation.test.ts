// Who is not listed any more does not get in any more, whatever else is wrong with the files.
import { once } from 'node:events'
import { chmod, readFile, rm, writeFile } from 'node:fs/promises'
import { request } from 'node:https'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { ConfigurationStatus } from '../../src/api/agent.ts'
import { createApp } from '../../src/app.ts'
import { lineOf } from '../../src/auth/token-file.ts'
import { makeToken } from '../../src/auth/token.ts'
import { loadConfig, rereadConfig } from '../../src/config.ts'
import { silent, until } from '../helpers/http-agent.ts'
import { secure, type Secured } from '../helpers/secured.ts'

t.setTimeout(180_000)

const secured: Secured = await secure(t)
const { authority, clients, directory, server, tokens, tokensFile } = secured
const allLines = await readFile(tokensFile, 'utf8')
const without = (name: string) => allLines.split('\n').filter(line => !line.includes(name)).join('\n')
const allowed = { name: 'engine.example', scope: 'operate' }
const authWith = (...clients: object[]) => ({ ...secured.config.auth, clients })
const configWith = (auth: object, more: object = {}) => JSON.stringify({ listen: { port: 0 }, domains: [], auth, ...more }, undefined, 2)
const good = configWith(authWith(allowed))
const ca = await readFile(authority.cert)
const pair = { cert: await readFile(clients.allowed.cert), key: await readFile(clients.allowed.key) }

interface Reply { status: number | undefined, text: () => string, ended: () => boolean, end: () => void }

/** An agent with a file of tokens and one client, and how it answers. */
async function start (t: Test) {
  const file = join(directory, 'config.json')
  await writeFile(file, good)
  await writeFile(tokensFile, allLines)
  await chmod(tokensFile, 0o600)
  const app = createApp(loadConfig(file, directory), silent, () => rereadConfig(file, directory))
  t.teardown(async () => { await app.stop() })
  const [address = ''] = await app.start()
  const ask = async (credential: object, path = '/agent/caller', headers: Record<string, string> = {}): Promise<Reply> => {
    const { headers: more = {}, ...tls } = credential as { headers?: Record<string, string> }
    const sent = request(`${address}${path}`, { ca, agent: false, headers: { ...more, ...headers }, ...tls }).end()
    const [response] = await once(sent, 'response')
    let [text, ended] = ['', false]
    response.setEncoding('utf8').on('data', (piece: string) => { text += piece }).on('error', () => {}).on('close', () => { ended = true })
    t.teardown(() => { sent.destroy() })
    return { status: response.statusCode, text: () => text, ended: () => ended, end: () => { sent.destroy() } }
  }
  const token = (name: 'read' | 'operate' | 'admin') => ({ headers: { authorization: `Bearer ${tokens[name]}` } })
  const statuses = async () => [(await ask(token('read'))).status, (await ask(token('admin'))).status, (await ask(pair)).status]
  return { app, file, ask, token, statuses }
}

/** What is done to the files, whether that can be put in force, and what then becomes of the tokens `read` and `admin`, and of the client. */
const changes: ReadonlyArray<[what: string, state: ConfigurationStatus['state'], read: number, admin: number, client: number, config: string | undefined, lines?: string]> = [
  ['nothing is changed', 'current', 200, 200, 200, good],
  ['the last client is removed', 'current', 200, 200, 403, configWith(authWith())],
  ['the last token is removed', 'current', 401, 401, 200, good, ''],
  ['a token is removed and another key is wrong', 'failed', 401, 200, 200, configWith(authWith(allowed), { domain: [] }), without('the-read')],
  ['a token is removed and a domain is wrong', 'failed', 401, 200, 200, configWith(authWith(allowed), { domains: [{ id: 'a b', path: 'x' }] }), without('the-read')],
  ['a token is removed and a comma is missing', 'failed', 401, 200, 200, good.replace('"domains": [],', '"domains": []'), without('the-read')],
  ['a token is removed and the end is missing', 'failed', 401, 200, 200, good.slice(0, -2), without('the-read')],
  ['the last client is removed and a comma is missing', 'failed', 200, 200, 403, configWith(authWith()).replace('"domains": [],', '"domains": []')],
  ['a client is removed and another one is wrong', 'failed', 200, 200, 403, configWith(authWith({ name: 'other', scope: 'root' }))],
  ['the client is there and another one is wrong', 'failed', 200, 200, 200, configWith(authWith({ name: 'other', scope: 'root' }, allowed))],
  ['the clients are called something else', 'failed', 200, 200, 403, configWith({ ...authWith(), klients: [allowed] })],
  ['authentication itself is broken', 'failed', 401, 401, 401, good.replace('"tls":', '"tls"')],
  ['it is there twice', 'failed', 401, 401, 401, `${good}${good}`],
  ['the configuration is empty', 'failed', 401, 401, 401, ''],
  ['the configuration is gone', 'failed', 401, 401, 401, undefined],
  ['the tokens are not named any more', 'current', 401, 401, 200, configWith({ tls: secured.config.auth.tls, clients: [allowed] })],
  ['authentication is removed', 'failed', 401, 401, 401, JSON.stringify({ listen: { port: 0 }, domains: [] })],
  ['a token is removed and a line is broken', 'failed', 401, 200, 200, good, `${without('the-read')}rubbish\n`],
  ['the line of a token is broken', 'failed', 401, 200, 200, good, allLines.replace('"the-read"', '"the-read')],
  ['two tokens have the same name', 'failed', 401, 200, 200, good, `${allLines}${lineOf(makeToken(), { name: 'the-read', scope: 'admin', createdAt: new Date() })}\n`],
  ['the authority of clients cannot be read', 'failed', 200, 200, 401, configWith({ ...authWith(allowed), tls: { ...secured.config.auth.tls, clientCa: tokensFile } })],
  ['the key of the agent does not fit', 'failed', 401, 200, 200, configWith({ ...authWith(allowed), tls: { ...secured.config.auth.tls, key: clients.allowed.key } }), without('the-read')]
]

t.test('whatever else is wrong, only who is listed gets in, and it is told what is wrong', async t => {
  const { app, file, ask, token, statuses } = await start(t)
  for (const [what, state, read, admin, client, config, lines] of changes) {
    await (config === undefined ? rm(file) : writeFile(file, config))
    await writeFile(tokensFile, lines ?? allLines)
    const status = await app.reload()
    t.equal(status.state, state, what)
    t.equal(status.problems !== undefined && status.problems.every(problem => problem.length > 10), state === 'failed', what)
    t.strictSame(await statuses(), [read, admin, client], what)
    await writeFile(file, good)
    await writeFile(tokensFile, allLines)
    t.match(await app.reload(), { state: 'current' })
    t.strictSame(await statuses(), [200, 200, 200], `${what}, and is repaired`)
  }
  for (const [what, spoil] of [['gone', rm], ['writable for everybody', async (file: string) => { await chmod(file, 0o606) }]] as const) {
    await spoil(tokensFile)
    t.match(await app.reload(), { state: 'failed', problems: [/tokens/] })
    t.strictSame(await statuses(), [401, 401, 200], `the tokens file is ${what}`)
    await writeFile(tokensFile, allLines, { mode: 0o600 })
    await chmod(tokensFile, 0o600)
    t.match(await app.reload(), { state: 'current' })
  }
  t.equal((await ask(token('operate'))).status, 200)
})

t.test('streams and long polls of whoever is not listed any more end, also when the reload fails', async t => {
  const { app, file, ask, token } = await start(t)
  const streams = [await ask(token('read'), '/events'), await ask(pair, '/events')]
  const stays = await ask(token('admin'), '/events')
  for (const stream of [...streams, stays]) await until(() => stream.text().includes('event: synced'))
  await writeFile(tokensFile, without('the-read'))
  await writeFile(file, configWith(authWith(), { domain: [] }))
  t.match(await app.reload(), { state: 'failed' })
  for (const stream of streams) await until(() => stream.ended())
  t.notOk(stays.ended())
  stays.end()
})

t.test('a failed reload shows in the answer, in /readyz and in a metric, until one succeeds', async t => {
  const { app, file, ask, token } = await start(t)
  const look = async () => {
    const [ready, metrics] = [await ask(token('admin'), '/readyz'), await ask(token('admin'), '/metrics')]
    await until(() => ready.ended() && metrics.ended())
    const { configuration, ...rest } = JSON.parse(ready.text()) as { ready: boolean, configuration: ConfigurationStatus }
    return { status: ready.status, ready: rest.ready, configuration, failed: /^vdsm_tasks_config_reload_failed (\d)$/m.exec(metrics.text())?.[1] }
  }
  const reload = async () => {
    const sent = request(`https://127.0.0.1:${new URL(app.http.listeningOrigin).port}/agent/reload`, { ca, agent: false, method: 'POST', ...token('admin') }).end()
    const [response] = await once(sent, 'response')
    let text = ''
    for await (const piece of response.setEncoding('utf8')) text += piece
    return { status: response.statusCode, body: JSON.parse(text) as object }
  }
  t.match(await look(), { status: 200, ready: true, configuration: { state: 'current' }, failed: '0' })
  await writeFile(file, configWith(authWith(allowed), { domain: [] }))
  t.match(await reload(), { status: 422, body: { code: 'reload-failed', detail: /Unknown key "domain"/, configuration: { state: 'failed' } } })
  t.match(await look(), { status: 200, ready: true, configuration: { state: 'failed', problems: [/Unknown key "domain"/] }, failed: '1' }, 'it can still copy')
  await writeFile(file, good)
  t.match(await reload(), { status: 200, body: { state: 'current' } })
  t.match(await look(), { configuration: { state: 'current' }, failed: '0' })
  t.equal((await ask(token('operate'), '/agent/reload')).status, 405)
})

t.test('TLS 1.2 has ECDHE with AEAD only', async t => {
  const { app } = await start(t)
  const { connect } = await import('node:tls')
  const { port } = new URL(app.http.listeningOrigin)
  const offer = async (ciphers: string) => await new Promise<string>(resolve => {
    const socket = connect({ port: Number(port), host: '127.0.0.1', ca, servername: 'localhost', maxVersion: 'TLSv1.2', minVersion: 'TLSv1.2', ciphers })
    socket.once('secureConnect', () => { resolve(socket.getCipher().name); socket.destroy() }).once('error', ({ message }) => { resolve(`refused: ${message}`) })
  })
  const isElliptic = /ecdsa|BEGIN EC/i.test(await readFile(server.cert, 'utf8')) || (await import('node:crypto')).createPrivateKey(await readFile(server.key)).asymmetricKeyType === 'ec'
  const kind = isElliptic ? 'ECDSA' : 'RSA'
  for (const good of [`ECDHE-${kind}-AES128-GCM-SHA256`, `ECDHE-${kind}-AES256-GCM-SHA384`, `ECDHE-${kind}-CHACHA20-POLY1305`]) t.equal(await offer(good), good)
  for (const bad of [`ECDHE-${kind}-AES128-SHA256`, `ECDHE-${kind}-AES256-SHA`, 'AES128-GCM-SHA256', 'AES256-SHA', 'DHE-RSA-AES256-GCM-SHA384']) t.match(await offer(bad), /^refused/, bad)
})
