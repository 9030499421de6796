import { appendFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { createApp } from '../../src/app.ts'
import { lineOf } from '../../src/auth/token-file.ts'
import { makeToken } from '../../src/auth/token.ts'
import { parseConfig } from '../../src/config.ts'
import { destination } from '../../src/http/login.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { silent } from '../helpers/http-agent.ts'
import { HttpClient, isProblem, type Reply } from '../helpers/http-client.ts'
import { Subscriber } from '../helpers/subscriber.ts'

const directory = await temporaryDirectory(t)
const token = makeToken()
await writeFile(join(directory, 'tokens'), lineOf(token, { name: 'someone', scope: 'operate', createdAt: new Date() }))
const config = parseConfig({ domains: [], listen: { port: 0 }, auth: { tokensFile: 'tokens' } }, directory)
const app = createApp(config, silent)
t.teardown(async () => { await app.stop() })
const [address = ''] = await app.start()
const port = Number(new URL(address).port)
const client = new HttpClient({ host: '127.0.0.1', port })
t.teardown(() => { client.close() })
const host = '127.0.0.1:7480'
const origin = `http://${host}`

const post = async (path: string, form: Record<string, string>, headers: Record<string, string> = {}): Promise<Reply> => await client.send('POST', path, {
  headers: { host, origin, 'content-type': 'application/x-www-form-urlencoded', ...headers }, body: new URLSearchParams(form).toString()
})
const cookieOf = (reply: Reply): string => reply.headers['set-cookie']?.[0]?.split(';')[0] ?? ''

t.test('a token gets a cookie, and the cookie what the token gets', async t => {
  const reply = await post('/login', { token: ` ${token} ` })
  t.match({ status: reply.status, headers: reply.headers }, { status: 303, headers: { location: '/', 'set-cookie': [/^__Host-vdsm-tasks=[\w-]{43}; Path=\/; Max-Age=43200; HttpOnly; SameSite=Strict; Secure$/] } })
  const cookie = cookieOf(reply)
  t.notMatch(cookie, token.slice(6))
  t.equal((await client.get('/tasks', { host, cookie })).status, 200)
  isProblem(t, await client.get('/agent/config', { host, cookie }), 'scope-insufficient')
  isProblem(t, await client.get('/tasks', { host, cookie, authorization: `Bearer ${makeToken()}` }), 'credentials-invalid', 'a wrong token is not passed over for the cookie')
  isProblem(t, await client.delete('/tasks/a', { host, cookie }), 'origin-not-allowed', 'a change without an Origin')
  isProblem(t, await client.delete('/tasks/a', { host, cookie, origin: 'http://127.0.0.1:9090' }), 'origin-not-allowed', 'a change from another port')
  isProblem(t, await client.delete('/tasks/a', { host, cookie, origin }), 'task-not-found', 'a change from the page')
  t.match((await client.get('/login', { host, cookie })).text, /You are someone and may operate/)
  isProblem(t, await client.send('POST', '/logout', { headers: { host, cookie } }), 'origin-not-allowed')
  t.equal((await client.get('/tasks', { host, cookie })).status, 200, 'still')
  t.match(await post('/logout', {}, { cookie }), { status: 303, headers: { location: '/login', 'set-cookie': [/=; Path=\/; Max-Age=0/] } })
  isProblem(t, await client.get('/tasks', { host, cookie }), 'unauthenticated', 'a session that was ended')
})

t.test('a stream ends with the session it was opened with, or when the time of its token is over; others go on', async t => {
  const follow = async (headers: Record<string, string>) => {
    const stream = new Subscriber({ host: '127.0.0.1', port }, '/events', { host, ...headers })
    t.teardown(() => { stream.request.destroy() })
    await stream.event('synced')
    return stream
  }
  const [one, two] = [cookieOf(await post('/login', { token })), cookieOf(await post('/login', { token }))]
  const byOne = await follow({ cookie: one })
  const byTwo = await follow({ cookie: two })
  const byToken = await follow({ authorization: `Bearer ${token}` })
  // last, for its time runs
  const soon = makeToken()
  const expiresAt = new Date(Date.now() + 3000)
  await appendFile(join(directory, 'tokens'), `\n${lineOf(soon, { name: 'soon', scope: 'read', createdAt: new Date(), expiresAt })}`)
  t.match(await app.reload(), { state: 'current' })
  const bySoon = await follow({ authorization: `Bearer ${soon}` })
  await post('/logout', {}, { cookie: one })
  await byOne.ended
  await bySoon.ended
  t.ok(Date.now() >= expiresAt.getTime(), 'not before its time')
  // to log in again is to leave the session before
  t.not(cookieOf(await post('/login', { token }, { cookie: two })), two)
  await byTwo.ended
  isProblem(t, await client.get('/tasks', { host, cookie: two }), 'unauthenticated', 'a key of before is worth nothing')
  t.notOk(byToken.response?.destroyed, 'the token itself is as good as before')
})

t.test('after the login it goes where the visitor wanted to, and never to another site', async t => {
  for (const [next, location] of [
    ['/', '/'], ['/docs?x=1', '/docs?x=1'], ['/tasks/a%2Fb', '/tasks/a%2Fb'],
    ['', '/'], ['https://evil.example/', '/'], ['//evil.example', '/'], ['/\\evil.example', '/'], ['\\\\evil.example', '/'], ['/\t/evil.example', '/'], ['/.//evil.example', '/'], ['javascript:alert(1)', '/'], ['/a\r\nx: y', '/ax:%20y']
  ] as const) {
    t.equal(destination(next), location, JSON.stringify(next))
  }
  for (const next of [undefined, null, 5, ['/docs'], {}]) t.equal(destination(next), '/')
  t.equal((await post('/login', { token, next: '/docs' })).headers.location, '/docs')
})

t.test('what the visitor sent stands in the form as text', async t => {
  const { text, headers } = await client.get(`/login?next=${encodeURIComponent('/"><script>alert(1)</script>')}`, { host })
  t.notMatch(text, /<script/)
  t.match(text, /value="\/%22%3E%3Cscript/)
  t.match(headers['content-security-policy'], /^default-src 'none'/)
})

t.test('a page that wants a login leads there, a program is told', async t => {
  t.match(await client.get('/docs?a=b', { host, 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' }), { status: 303, headers: { location: '/login?next=%2Fdocs%3Fa%3Db' } })
  const reply = await client.get('/docs', { host })
  isProblem(t, reply, 'unauthenticated')
  t.equal(reply.headers['www-authenticate'], 'Bearer realm="vdsm-tasks"')
})

t.test('a stranger cannot make the agent keep long bodies, of whatever type', async t => {
  for (const path of ['/login', '/logout']) {
    for (const type of ['application/x-www-form-urlencoded', 'application/json', 'application/merge-patch+json', undefined]) {
      const reply = await client.send('POST', path, { headers: { host, origin, ...type !== undefined && { 'content-type': type } }, body: ' '.repeat(5000) })
      isProblem(t, reply, 'body-too-large', `${path} ${type}`)
    }
  }
})
