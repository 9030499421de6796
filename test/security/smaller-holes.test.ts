// Descriptors that a parent left open, floods of logins, tokens in files, and paths in units.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { openSync } from 'node:fs'
import { chmod, readdir, readFile, readlink, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { pino } from 'pino'
import t from 'tap'
import { createApp } from '../../src/app.ts'
import { lineOf } from '../../src/auth/token-file.ts'
import { makeToken } from '../../src/auth/token.ts'
import { parseConfig } from '../../src/config.ts'
import { runHere } from '../helpers/command-session.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { HttpClient, type Reply } from '../helpers/http-client.ts'

t.setTimeout(120_000)

const directory = await temporaryDirectory(t)
const token = makeToken()
await writeFile(join(directory, 'tokens'), lineOf(token, { name: 'someone', scope: 'operate', createdAt: new Date() }), { mode: 0o600 })

t.test('what a parent left open is closed, and the agent works without it', async t => {
  const descriptors = fileURLToPath(new URL('../../src/system/descriptors.ts', import.meta.url))
  const loader = fileURLToPath(new URL('../../scripts/typescript/register.mjs', import.meta.url))
  const secret = join(directory, 'secret')
  await writeFile(secret, 'x')
  const program = `import { closeInherited } from '${descriptors}'; closeInherited(); console.log('ready'); setInterval(() => {}, 1000)`
  const [file, folder] = [openSync(secret, 'r'), openSync(directory, 'r')]
  // descriptor 3 is a pipe, 4 a file, 5 a folder, 6 a socket, 40 a file
  const child = spawn(process.execPath, ['--import', loader, '--input-type=module', '--eval', program], {
    stdio: ['ignore', 'pipe', 'inherit', 'pipe', file, folder, 'overlapped', ...Array.from({ length: 33 }, () => 'ignore' as const), file],
    env: { PATH: process.env['PATH'] }
  })
  t.teardown(() => { child.kill('SIGKILL') })
  if (child.stdout === null) throw new Error('it has standard output')
  await once(child.stdout, 'data')
  const own = `/proc/${child.pid}/fd`
  const targets = await Promise.all((await readdir(own)).filter(name => Number(name) > 2).map(async name => await readlink(join(own, name))))
  const single = targets.filter(target => target.startsWith('pipe:') && targets.filter(other => other === target).length === 1)
  t.strictSame(targets.filter(target => target.startsWith('/') && target !== '/dev/null').concat(single, targets.filter(target => target.startsWith('socket:'))), [])
  t.ok(targets.some(target => target.includes('eventpoll')), 'and Node has its own')
})

t.test('failed logins are limited, a valid token always gets in, and who logs out is in the log', async t => {
  const lines: string[] = []
  const app = createApp(parseConfig({ domains: [], listen: { port: 0 }, auth: { tokensFile: 'tokens' } }, directory), pino({}, { write: line => { lines.push(line) } }))
  t.teardown(async () => { await app.stop() })
  const [address = ''] = await app.start()
  const client = new HttpClient({ host: '127.0.0.1', port: Number(new URL(address).port) })
  t.teardown(() => { client.close() })
  const host = '127.0.0.1:7480'
  const post = async (path: string, form: Record<string, string>, headers: Record<string, string> = {}): Promise<Reply> => await client.send('POST', path, {
    headers: { host, origin: `http://${host}`, 'content-type': 'application/x-www-form-urlencoded', ...headers }, body: new URLSearchParams(form).toString()
  })
  const failed: Reply[] = []
  for (let count = 0; count < 30; count++) failed.push(await post('/login', { token: makeToken() }))
  t.strictSame([failed[0]?.status, failed.at(-1)?.status], [401, 429])
  t.match(failed.at(-1)?.headers['retry-after'], /^\d+$/)
  const replies: Reply[] = []
  for (let count = 0; count < 30; count++) replies.push(await post('/login', { token }))
  t.strictSame([...new Set(replies.map(({ status }) => status))], [303], 'also more often than that, from the same address')
  const cookie = replies.at(-1)?.headers['set-cookie']?.[0]?.split(';')[0] ?? ''
  t.equal((await post('/logout', {}, { cookie })).status, 303)
  const out = lines.map(line => JSON.parse(line) as Record<string, unknown>).find(({ path }) => path === '/logout')
  t.match(out, { audit: 'change', who: 'someone', via: 'session', from: '127.0.0.1' })
  for (const path of ['/docs', '/docs/static/index.html']) {
    const { headers } = await client.get(path, { host, authorization: `Bearer ${token}` })
    t.match(headers, { 'x-content-type-options': 'nosniff', 'cross-origin-opener-policy': 'same-origin', 'cross-origin-resource-policy': 'same-origin', 'referrer-policy': 'same-origin' }, path)
    t.match(String(headers['content-security-policy']), /frame-ancestors 'none'|default-src/, path)
  }
})

t.test('a token is written to a new file of its owner, and one that others can read is warned of', async t => {
  const [file, out] = [join(directory, 'list'), join(directory, 'my.token')]
  const create = async (...more: string[]) => await runHere(['token', 'create', '--scope', 'read', '--file', file, ...more])
  const made = await create('--out', out)
  t.match(made, { status: 0, stdout: '', stderr: /is in .*list/ })
  t.equal((await stat(out)).mode & 0o777, 0o600)
  t.match(await readFile(out, 'utf8'), /^vdsmt_[\w-]{43}\n$/)
  const before = await readFile(file, 'utf8')
  await symlink(join(directory, 'elsewhere'), join(directory, 'link'))
  for (const there of [out, join(directory, 'link')]) t.match(await create('--out', there), { status: 2, stderr: /cannot be written.*EEXIST/ })
  t.equal(await readFile(file, 'utf8'), before, 'a token that could not be kept is not listed')
  for (const [mode, warns] of [[0o600, false], [0o640, true], [0o604, true]] as const) {
    await chmod(out, mode)
    const { stderr } = await runHere(['info', '--token-file', out, '--url', 'http://127.0.0.1:1'])
    t.equal(/Others on this host can read the token/.test(stderr), warns, mode.toString(8))
  }
})

t.test('the drop-in has the paths of domains, mount roots and sockets, quoted for systemd', async t => {
  const config = join(directory, 'config.json')
  await writeFile(config, JSON.stringify({ listen: [{ port: 1 }, { unix: '/run/other/a.sock' }], domains: [{ id: 'a', path: '/srv/a b%"' }, { id: 'b', path: 'images' }], discover: ['/rhev/data-center/mnt'] }))
  const { status, stdout } = await runHere(['service', 'paths', '--config', config])
  t.equal(status, 0)
  t.strictSame(stdout.split('\n').slice(0, 5), ['[Service]', 'ReadWritePaths="-/srv/a b%%\\""', `ReadWritePaths=-${directory}/images`, 'ReadWritePaths=-/rhev/data-center/mnt', 'ReadWritePaths=-/run/other'])
  t.match(await runHere(['service', 'paths', '--config', join(directory, 'nowhere')]), { status: 2, stderr: /cannot be read/ })
})
