import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { makeDirectory } from '../helpers/built-agent.ts'

const execute = promisify(execFile)
const root = fileURLToPath(new URL('../..', import.meta.url))

t.setTimeout(600_000)

t.test('the tarball, installed in an empty prefix, runs as its unit says, and its command line copies', async t => {
  const directory = await makeDirectory(t)
  const prefix = join(directory, 'prefix')
  await mkdir(prefix)
  const { stdout } = await execute('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', directory], { cwd: root })
  const [{ filename }] = JSON.parse(stdout) as [{ filename: string }]
  await execute('npm', ['install', '--global', '--no-audit', '--no-fund', '--prefer-offline', '--prefix', prefix, join(directory, filename)])
  const PATH = [join(prefix, 'bin'), dirname(process.execPath), '/usr/sbin:/usr/bin:/sbin:/bin'].join(':')
  const unit = await readFile(join(prefix, 'lib/node_modules/vdsm-tasks/service/vdsm-tasks.service'), 'utf8')

  const config = join(directory, 'config.json')
  const socket = join(directory, 'agent.sock')
  await writeFile(config, JSON.stringify({ listen: [{ unix: socket }], domains: [{ id: 'local', path: './images', create: true, sample: true }] }))
  const line = /^ExecStart=(.*)$/m.exec(unit)?.[1]?.replace('/etc/vdsm-tasks/config.json', config) ?? ''
  t.match(line, 'vdsm-tasks serve --config')
  const agent = spawn('sh', ['-c', `exec ${line}`], { cwd: directory, env: { PATH }, stdio: ['ignore', 'ignore', 'pipe'] })
  const gone = once(agent, 'exit')
  t.teardown(async () => { agent.kill('SIGKILL'); await gone })
  for await (const said of createInterface(agent.stderr)) if (said.includes('listens on')) break

  const vdsmTasks = async (...args: string[]) => (await execute('vdsm-tasks', args, { env: { PATH, VDSM_TASKS_URL: `unix:${socket}` } })).stdout
  t.match(await vdsmTasks('copy', 'local/sample.raw', 'local/copy.qcow2', '--verify'), /identical to its source/)
  t.match(await vdsmTasks('images', 'local'), /copy\.qcow2/)
  agent.kill('SIGTERM')
  t.same((await gone)[0], 0, 'systemd stops it with SIGTERM')
})
