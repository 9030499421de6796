import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, statSync } from 'node:fs'
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { parseConfig } from '../src/config.ts'
import { startProgram, type Running } from './helpers/command-line.ts'
import { temporaryDirectory } from './helpers/directory.ts'
import { HttpClient } from './helpers/http-client.ts'
import { until } from './helpers/processes.ts'

t.setTimeout(300_000)

const main = fileURLToPath(new URL('../dist/main.js', import.meta.url))

/** Runs the built agent with these arguments. */
function run (t: Test, cwd: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Running {
  return startProgram(t, process.execPath, [main, ...args], { cwd, env })
}

async function configIn (directory: string, config: object): Promise<string> {
  const file = join(directory, 'config.json')
  await writeFile(file, JSON.stringify({ domains: [], ...config }))
  return file
}

t.test('help and version are told on standard output, mistakes on standard error', async t => {
  const cwd = await temporaryDirectory(t)
  const runs = [
    [['--help'], 0, /^Usage: vdsm-tasks/, /^$/],
    [['--version'], 0, /^\d+\.\d+\.\d+\n$/, /^$/],
    [['--nonsense'], 2, /^$/, /--nonsense[\s\S]*Usage: vdsm-tasks/],
    [['stray'], 2, /^$/, /stray[\s\S]*Usage: vdsm-tasks/]
  ] as const
  await Promise.all(runs.map(async ([args, status, stdout, stderr]) => {
    const program = run(t, cwd, args)
    t.equal(await program.ended, status, args.join(' '))
    t.match(program.stdout(), stdout)
    t.match(program.stderr(), stderr)
  }))
  t.same(await readdir(cwd), [], 'nothing was made')
})

t.test('a configuration that is wrong ends the agent before it does anything', async t => {
  const cwd = await temporaryDirectory(t)
  for (const [config, message] of [
    ['{"copy":{"maxConcurent":1}}', 'Unknown key "copy.maxConcurent" in the configuration. --show-config shows the keys there are.\n'],
    ['{"listen":{"host":"0.0.0.0"}}', /^The agent does not listen on 0\.0\.0\.0 without TLS .*\n$/],
    ['{', /^The configuration .*config\.json is not JSON: .*\n$/]
  ] as const) {
    await writeFile(join(cwd, 'config.json'), config)
    const program = run(t, cwd, ['--config', 'config.json', '--show-config'])
    t.equal(await program.ended, 2)
    t.match(program.stderr(), message)
    t.equal(program.stdout(), '')
  }
  const missing = run(t, cwd, ['--config', 'none.json'])
  t.equal(await missing.ended, 2)
  t.match(missing.stderr(), /none\.json cannot be read: ENOENT/)
  t.same(await readdir(cwd), ['config.json'])
})

t.test('--show-config prints what is in force, from the option, the environment, or neither, and makes nothing', async t => {
  const cwd = await temporaryDirectory(t)
  await writeFile(join(cwd, 'a.json'), '{"hostId":"from-a"}')
  await writeFile(join(cwd, 'b.json'), '{"hostId":"from-b"}')
  const runs = [
    [[], {}, {}],
    [[], { VDSM_TASKS_CONFIG: '' }, {}],
    [['--config', 'a.json'], {}, { hostId: 'from-a' }],
    [[], { VDSM_TASKS_CONFIG: join(cwd, 'b.json') }, { hostId: 'from-b' }],
    [['--config', 'a.json'], { VDSM_TASKS_CONFIG: 'b.json' }, { hostId: 'from-a' }]
  ] as const
  await Promise.all(runs.map(async ([args, env, config]) => {
    const program = run(t, cwd, [...args, '--show-config'], env)
    t.equal(await program.ended, 0)
    t.same(JSON.parse(program.stdout()), parseConfig(config, cwd))
    t.equal(program.stderr(), '')
  }))
  t.same((await readdir(cwd)).sort(), ['a.json', 'b.json'])
})

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  t.test(`${signal} stops the agent with status 0, a reply under way included, and its socket goes with it`, async t => {
    const directory = await temporaryDirectory(t)
    const socket = join(directory, 'a.sock')
    await mkdir(join(directory, 'images'))
    const config = await configIn(directory, { listen: { unix: socket }, domains: [{ id: 'd', path: 'images', create: true }], hostId: 'n1' })
    const program = run(t, directory, ['--config', config])
    await program.says(/listens on unix:/)
    const client = new HttpClient({ socketPath: socket })
    t.teardown(() => { client.close() })
    const { instance } = (await client.get('/agent')).json
    const task = (await client.put('/tasks/a', { kind: 'storage.createImage', domain: 'd', image: 'a.raw', virtualSize: 512 }, { prefer: 'wait=60' })).task
    const seen = await client.get('/tasks/a', { prefer: 'wait=60' })
    const poll = client.get('/tasks/a', { prefer: 'wait=60', 'if-none-match': seen.etag })
    // answered behind the poll, on another connection: by then the poll waits
    t.equal((await client.get('/healthz')).status, 200)
    program.child.kill(signal)
    t.match(await poll, { status: 304, headers: { etag: seen.etag, 'agent-instance': instance } })
    t.equal(await program.ended, 0)
    t.equal(existsSync(socket), false)
    const lines: Array<Record<string, unknown>> = program.stdout().trim().split('\n').map(line => JSON.parse(line))
    t.ok(lines.every(({ level, host, msg }) => Number(level) < 50 && host === 'n1' && typeof msg === 'string'), 'the log is JSON, line by line, and no error')
    t.ok(lines.some(({ task: id, runId, state }) => id === 'a' && runId === task.runId && state === 'succeeded'))
  })
}

t.test('the agent goes on when nobody reads what it says any more, and still stops when it is told to', async t => {
  const directory = await temporaryDirectory(t)
  const socket = join(directory, 'a.sock')
  const program = run(t, directory, ['--config', await configIn(directory, { listen: { unix: socket } })])
  program.child.stdout?.destroy()
  program.child.stderr?.destroy()
  await until(() => existsSync(socket))
  const client = new HttpClient({ socketPath: socket })
  t.teardown(() => { client.close() })
  // every request is a line in the log, and the welcome is one more thing that cannot be said
  for (let n = 0; n < 3; n++) t.equal((await client.get('/tasks/none')).status, 404)
  t.equal((await client.get('/healthz')).status, 200)
  program.child.kill('SIGTERM')
  t.equal(await program.ended, 0)
})

t.test('an address that is taken is named, with what to do', async t => {
  const directory = await temporaryDirectory(t)
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => { server.close() })
  const address = server.address()
  const port = typeof address === 'object' ? address?.port : 0
  for (const listen of [{ port }, [{ port: 0 }, { port }]]) {
    const program = run(t, directory, ['--config', await configIn(directory, { listen })])
    t.equal(await program.ended, 1)
    t.match(program.stderr(), new RegExp(`^The agent cannot start: .*EADDRINUSE.*127\\.0\\.0\\.1:${port}\\. Is another agent running\\? "listen" in the configuration sets another address\\.\\n$`))
  }
})

t.test('the socket of a killed agent is taken over, that of a living one is not', async t => {
  const directory = await temporaryDirectory(t)
  const config = await configIn(directory, { listen: { unix: 'a.sock' } })
  const first = run(t, directory, ['--config', config])
  await first.says(/listens on unix:/)
  const other = run(t, directory, ['--config', config])
  t.equal(await other.ended, 1)
  t.match(other.stderr(), /Another process listens on .*a\.sock/)
  first.child.kill('SIGKILL')
  await first.ended
  t.equal(existsSync(join(directory, 'a.sock')), true)
  const second = run(t, directory, ['--config', config])
  await second.says(/listens on unix:/)
  const client = new HttpClient({ socketPath: join(directory, 'a.sock') })
  t.teardown(() => { client.close() })
  t.equal((await client.get('/healthz')).status, 200)
})

t.test('every start is another instance, and the welcome has lines that work', async t => {
  const directory = await temporaryDirectory(t)
  const config = await configIn(directory, { listen: [{ port: 0 }, { host: 'localhost', port: 0 }] })
  const instances = new Set<unknown>()
  for (let n = 0; n < 2; n++) {
    const program = run(t, directory, ['--config', config])
    await program.says(/ listens on /)
    const addresses = [...program.stderr().matchAll(/http:\/\/\S+?:(\d+)/g)].map(([address]) => new URL(address))
    t.equal(addresses.length, 2)
    for (const { hostname, port } of addresses) {
      const client = new HttpClient({ host: hostname.replace(/^\[|\]$/g, ''), port: Number(port) })
      const reply = await client.get('/agent')
      t.equal(reply.json['instance'], reply.headers['agent-instance'])
      instances.add(reply.json['instance'])
      client.close()
    }
    program.child.kill('SIGTERM')
    t.equal(await program.ended, 0)
  }
  t.equal(instances.size, 2)
})

t.test('the sample image is made for a user, too, whose PATH has no folder of the system', async t => {
  const directory = await temporaryDirectory(t)
  const config = await configIn(directory, { listen: { unix: 'a.sock' }, domains: [{ id: 'local', path: 'images', create: true, sample: true }] })
  const program = run(t, directory, ['--config', config], { PATH: '/usr/bin:/bin' })
  await program.says(/made sample\.raw|domain local is not available/)
  const sample = join(directory, 'images/sample.raw')
  t.ok(existsSync(sample), program.stdout())
  const inside = (command: string) => execFileSync('/usr/sbin/debugfs', ['-R', command, sample], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
  t.match(inside('cat README.txt'), /so that there is something to copy/)
  t.match(inside('stat bin/node'), new RegExp(`Mode: +0755[^]*Size: ${statSync(process.execPath).size}\n`))
  execFileSync('/usr/sbin/e2fsck', ['-fn', sample], { stdio: 'ignore' })
  t.same(await readdir(join(directory, 'images/.vdsm-tasks/parts')), [], 'nothing is left of the making')
})
