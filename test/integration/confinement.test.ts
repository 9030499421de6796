import { chown, mkdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import t from 'tap'
import { Agent, request } from 'undici'
import { temporaryDirectory } from '../helpers/directory.ts'
import { makeDisk, MiB, sh } from '../helpers/images.ts'
import { commandLine, descendants, isAlive, openFiles, socketsOf, until } from '../helpers/processes.ts'
import { startServe } from '../helpers/serve.ts'

t.setTimeout(120_000)

const nobody = 65534

/** What the kernel tells of a process; undefined when it has ended meanwhile. */
async function lookInto (pid: number): Promise<{ status: string, environ: string, open: string[] } | undefined> {
  try {
    const [status, environ] = await Promise.all(['status', 'environ'].map(async name => await readFile(`/proc/${pid}/${name}`, 'utf8'))) as [string, string]
    return { status, environ, open: openFiles(pid).map(({ path }) => path) }
  } catch (error) {
    if (isAlive(pid)) throw error
    return undefined
  }
}

t.test('as another user it copies images, its children have little, and root\'s files are out of reach', { skip: process.getuid?.() !== 0 && 'needs root' }, async t => {
  const top = await temporaryDirectory(t)
  const domain = join(top, 'domain')
  await mkdir(domain)
  await sh('chmod', '755', top)
  await chown(domain, nobody, nobody)
  const run = join(top, 'run')
  await mkdir(run)
  await chown(run, nobody, nobody)
  const socket = join(run, 'agent.sock')
  await mkdir(join(top, 'private'), { mode: 0o700 })
  const agent = await startServe(t, top, {
    listen: { unix: socket, mode: '0660' },
    runAs: { user: 'nobody', group: 'nogroup' },
    domains: [{ id: 'local', path: domain, create: true }, { id: 'private', path: join(top, 'private'), create: true }]
  })
  t.equal((await stat(socket)).mode & 0o777, 0o660)
  const dispatcher = new Agent({ connect: { socketPath: socket } })
  t.teardown(async () => { await dispatcher.destroy() })
  const ask = async (method: 'GET' | 'PUT' | 'DELETE', path: string, body?: object, headers = {}) => {
    const reply = await request(`http://localhost${path}`, { method, dispatcher, headers: { 'content-type': 'application/json', ...headers }, body: body === undefined ? null : JSON.stringify(body) })
    return { status: reply.statusCode, body: await reply.body.json() as Record<string, unknown> }
  }
  const copy = (image: string, more: object) => ({ kind: 'storage.copyImage', source: { domain: 'local', image: 'source.raw' }, target: { domain: 'local', image }, ...more })
  await until(async () => (await ask('GET', '/domains/local')).body['state'] === 'available', 'the domain')
  await makeDisk(join(domain, 'source.raw'), 8 * MiB)
  await chown(join(domain, 'source.raw'), nobody, nobody)
  t.match(await ask('PUT', '/tasks/fast', copy('copy.qcow2', { verify: true })), { status: 202 })
  t.match(await ask('GET', '/tasks/fast', undefined, { prefer: 'wait=60' }), { body: { state: 'succeeded', error: undefined } })
  t.equal((await stat(join(domain, 'copy.qcow2'))).uid, nobody)

  t.match(await ask('PUT', '/tasks/slow', copy('slow.raw', { bandwidth: 1 })), { status: 202 })
  const children = await until(() => {
    const all = [agent.pid, ...descendants(agent.pid)]
    return all.some(pid => commandLine(pid).includes('copy/main')) && all
  }, 'a copy worker')
  const listeners = socketsOf(agent.pid)
  t.ok(listeners.length > 2)
  for (const pid of children) {
    const seen = await lookInto(pid)
    // a program that was just looking something up is gone already
    if (seen === undefined) continue
    const { status, environ, open } = seen
    t.match(status, /^Uid:\t65534\t65534\t65534\t65534$/m, commandLine(pid).slice(0, 100))
    t.match(status, /^Gid:\t65534\t65534\t65534\t65534$/m)
    for (const set of ['Inh', 'Prm', 'Eff', 'Amb']) t.match(status, new RegExp(`^Cap${set}:\\t0+$`, 'm'), set)
    t.match(status, /^Groups:\t(?:65534 )?$/m, 'none of the groups of root')
    if (pid === agent.pid) continue
    t.match(status, /^NoNewPrivs:\t1$/m, 'no program can give it more')
    const sockets = socketsOf(pid)
    t.same(sockets.filter(socket => listeners.includes(socket)), [], 'no connection and no listener of the agent')
    const environment = environ.split('\0').filter(text => text !== '').map(text => text.split('=')[0] ?? '')
    // the last two are the channel of the child
    t.same(environment.filter(name => !['PATH', 'LC_ALL', 'UV_THREADPOOL_SIZE', 'NODE_CHANNEL_FD', 'NODE_CHANNEL_SERIALIZATION_MODE'].includes(name)), [])
    t.same(open.filter(path => path.startsWith('/') && !path.startsWith(domain) && !path.startsWith('/dev/') && !path.startsWith(join(top, 'private'))), [], 'no file that is none of its business')
  }
  t.match(await ask('GET', '/domains/private'), { status: 200, body: { state: 'unavailable' } })
  await ask('DELETE', '/tasks/slow')
})

t.test('who is not root cannot become somebody else, and is told so', async t => {
  const top = await temporaryDirectory(t)
  const config = { listen: { port: 0 }, domains: [], runAs: { user: 'no-such-user', group: 'nogroup' } }
  await t.rejects(startServe(t, top, config), { message: process.getuid?.() === 0 ? /ended with 2:\nThe agent cannot start: .*no-such-user/s : /only root can become another user/ })
})

t.test('what cannot be read is told at the start', async t => {
  const top = await temporaryDirectory(t)
  await t.rejects(startServe(t, top, { listen: { port: 0 }, domains: [], auth: { tokensFile: 'missing' } }), { message: /ended with 2:\nThe agent cannot start: the tokens in .*missing cannot be read: ENOENT/ })
  await t.rejects(startServe(t, top, { listen: { port: 0 }, domains: [], auth: { tls: { cert: 'config.json', key: 'config.json' } } }), { message: /ended with 2:\nThe agent cannot start: there is no certificate in / })
  await t.rejects(startServe(t, top, { listen: { host: '0.0.0.0', port: 0 }, domains: [] }), { message: /ended with 2:\nThe agent does not listen on 0\.0\.0\.0 without TLS .* and authentication / })
})
