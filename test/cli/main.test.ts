import { createServer } from 'node:http'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { createProgram } from '../../src/cli/program.ts'
import { Session } from '../../src/cli/session.ts'
import { makeDirectory, freePort, startAgent } from '../helpers/built-agent.ts'
import { commandLineMain, runCommand, startCommand, startProgram } from '../helpers/command-line.ts'

t.setTimeout(180_000)

const session = new Session({ stdin: process.stdin, stdout: { write: () => {} }, stderr: { write: () => {} }, env: {}, directory: '/', exit: () => { throw new Error('exit') } })
const commands = createProgram(session).commands

t.test('every command has help with examples that it would take', async t => {
  t.ok(commands.length > 17)
  const helps = await Promise.all(['', ...commands.map(command => command.name())].map(async name => ({ name, ...await runCommand(t, [...name === '' ? [] : [name], '--help']) })))
  for (const { name, status, stdout, stderr } of helps) {
    t.match({ status, stderr }, { status: 0, stderr: '' }, name)
    t.match(stdout, new RegExp(`^Usage: vdsm-tasks ${name}`))
    t.match(stdout, new RegExp(`Examples?:\n(  vdsm-tasks .*${name}.*\n)+`), name)
  }
  t.match(helps[0]?.stdout, /Exit status:\n {2}0 .*\n {2}1 .*\n {2}2 .*\n {2}3 .*\n {2}4 .*\n {2}130 /)
  t.match(await runCommand(t, ['--version']), { status: 0, stdout: /^\d+\.\d+\.\d+\n$/ })
})

t.test('a wrong command line ends with 2 before anything is asked', async t => {
  const port = await freePort()
  const wrong = [
    [], ['nonsense'], ['copy', 'a'], ['copy', 'a/b', 'c/d', '--bandwidth', '10X'], ['copy', 'a/b', 'c/d', '--format', 'vmdk'], ['info', '--url', 'ftp://x'],
    ['info', '--token-file', '/nowhere'], ['rebalance', 'v', 'pause'], ['remove-brick', 'v', 'start'], ['create', 'a/b', '0'], ['wait', '--patience', '-1']
  ]
  await Promise.all(wrong.map(async args => {
    const { status, stdout, stderr } = await runCommand(t, args, { env: { VDSM_TASKS_URL: `http://127.0.0.1:${port}` } })
    t.match({ status, stdout }, { status: 2, stdout: '' }, args.join(' '))
    t.notMatch(stderr, /^ +at /m)
    t.ok(stderr.length > 20)
  }))
  await Promise.all([['--json'], ['--json', 'serve'], ['nonsense', '--json'], ['copy', 'a', '--json'], ['--json', 'copy', 'a/b', 'c/d', '--bandwidth', '10X'], ['info', '--url', 'ftp://x', '--json']].map(async args => {
    const { status, stdout } = await runCommand(t, args)
    t.match({ status, problem: JSON.parse(stdout) }, { status: 2, problem: { code: 'usage', title: 'The command line is wrong', detail: /^["\w].+\.?$/ } }, `${args.join(' ')}: programs get a problem`)
  }))
})

t.test('an agent that is not there ends with 3, at once and in words', async t => {
  const url = `http://127.0.0.1:${await freePort()}`
  for (const args of [['info'], ['copy', 'local/a.raw', 'local/b.raw'], ['events'], ['wait', 'x'], ['tasks', '--url', 'unix:/nowhere.sock']]) {
    t.match(await runCommand(t, args, { env: { VDSM_TASKS_URL: url } }), { status: 3, stdout: '', stderr: /^The agent at (http|unix):\S+ cannot be reached: .*\n$/ }, args.join(' '))
  }
  t.match(JSON.parse((await runCommand(t, ['info', '--json', '--url', url])).stdout), { code: 'unreachable', detail: /cannot be reached/ })
})

t.test('serve is the agent, on a unix socket too', async t => {
  const directory = await makeDirectory(t)
  const config = join(directory, 'config.json')
  await writeFile(config, JSON.stringify({ listen: { unix: 'a.sock' }, hostId: 'n1', domains: [] }))
  const agent = startCommand(t, ['serve', '--config', config])
  await agent.says(/listens on unix:/)
  const url = `unix:${join(directory, 'a.sock')}`
  t.match(await runCommand(t, ['info', '--url', url]), { status: 0, stdout: /^host +n1$/m })
  t.match(JSON.parse((await runCommand(t, ['info', '--json'], { env: { VDSM_TASKS_URL: url } })).stdout), { hostId: 'n1', name: 'vdsm-tasks' })
  agent.child.kill('SIGTERM')
  t.equal(await agent.ended, 0)
  t.match(await runCommand(t, ['serve', '--show-config', '--config', config]), { status: 0, stdout: /"hostId": "n1"/ })
})

t.test('the token of a file is sent, without its line break', async t => {
  const directory = await makeDirectory(t)
  await writeFile(join(directory, 'token'), 'secret\n')
  await writeFile(join(directory, 'empty'), '\n')
  const seen: Array<string | undefined> = []
  const server = createServer(({ headers }, response) => {
    seen.push(headers.authorization)
    response.setHeader('content-type', 'application/json').end('{"items":[]}')
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => { server.close() })
  const address = server.address()
  const env = { VDSM_TASKS_URL: `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}` }
  const cwd = directory
  t.match(await runCommand(t, ['domains', '--token-file', 'token'], { env, cwd }), { status: 0 })
  t.match(await runCommand(t, ['domains'], { env: { ...env, VDSM_TASKS_TOKEN_FILE: 'token' }, cwd }), { status: 0 })
  t.match(await runCommand(t, ['domains', '--token-file', 'empty'], { env, cwd }), { status: 2, stderr: /does not hold a token/ })
  t.same(seen, ['Bearer secret', 'Bearer secret'])
})

t.test('whoever reads the output may go: it ends quietly', async t => {
  const { address } = await startAgent(t, await makeDirectory(t))
  const events = startCommand(t, ['events', '--json'], { env: { VDSM_TASKS_URL: address } })
  await events.says(/"synced"/)
  events.child.stdout?.destroy()
  t.match(await runCommand(t, ['create', 'local/a.raw', '1M', '--url', address]), { status: 0 })
  t.equal(await events.ended, 0)
  t.equal(events.stderr(), '')

  // a shell's pipe, where nothing is written after the reader has gone
  const piped = startProgram(t, 'bash', ['-c', `'${process.execPath}' '${commandLineMain}' events | head -1; echo "\${PIPESTATUS[*]}"`], { env: { VDSM_TASKS_URL: address } })
  t.equal(await piped.ended, 0)
  t.match(piped.stdout(), /^\d\d:\d\d:\d\d .*\n0 0\n$/, 'it does not wait for the next event')

  const copying = startCommand(t, ['copy', 'local/sample.raw', 'local/b.raw', '--bandwidth', '4M', '--id', 'b', '--url', address])
  await copying.says(/running/)
  copying.child.stderr?.destroy()
  t.equal(await copying.ended, 1, 'but what was being followed is not done')
  t.match(await runCommand(t, ['cancel', 'nosuch', 'b', '--url', address]), { status: 1, stdout: /^canceled {2}b /, stderr: /^No task nosuch\..* "vdsm-tasks status IMAGE" tells\.\n$/ })
})

t.test('an agent below a path of a proxy is reached there', async t => {
  const asked: unknown[] = []
  const server = createServer(({ url }, response) => {
    asked.push(url)
    response.setHeader('content-type', 'application/json').end('{"items":[]}')
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => { server.close() })
  const address = server.address()
  for (const end of ['', '/', '/node1', '/node1/']) {
    t.match(await runCommand(t, ['domains', '--url', `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}${end}`]), { status: 0 })
  }
  t.same(asked, ['/domains', '/domains', '/node1/domains', '/node1/domains'])
})
