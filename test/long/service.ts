import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { makeDirectory } from '../helpers/built-agent.ts'
import { unlessRoot } from '../helpers/mount-space.ts'
import { commandLine, descendants, until } from '../helpers/processes.ts'

const execute = promisify(execFile)
const root = fileURLToPath(new URL('../..', import.meta.url))

t.setTimeout(600_000)

const directory = await makeDirectory(t)
const prefix = join(directory, 'prefix')
await mkdir(prefix)
const guide = await readFile(join(root, 'docs/operations.md'), 'utf8')
/** The tarballs of the guide: the first that is installed, and the one that is installed over it. */
const [first = '', next = ''] = [...guide.matchAll(/^npm install -g \.\/(\S+\.tgz)/gm)].map(([, name = '']) => name)
await rename(join(directory, await pack(root)), join(directory, first))
await makeNext()
await execute('npm', ['install', '--global', '--no-audit', '--no-fund', '--prefer-offline', '--prefix', prefix, join(directory, first)])
const service = join(prefix, 'lib/node_modules/vdsm-tasks/service')

/** Packs a folder as `npm pack` does, and tells the name. */
async function pack (folder: string): Promise<string> {
  const { stdout } = await execute('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', directory], { cwd: folder })
  const [{ filename }] = JSON.parse(stdout) as [{ filename: string }]
  return filename
}

/** The next version: the same with another number. */
async function makeNext (): Promise<void> {
  await execute('tar', ['-xzf', first], { cwd: directory })
  const manifest = join(directory, 'package/package.json')
  await writeFile(manifest, JSON.stringify({ ...JSON.parse(await readFile(manifest, 'utf8')) as object, version: /\d+\.\d+\.\d+/.exec(next)?.[0] }))
  const made = await pack(join(directory, 'package'))
  if (made !== next) throw new Error(`the guide upgrades to ${next}, the next version is ${made}`)
}

t.test('the tarball, installed in an empty prefix, runs as its unit says, and its command line copies', async t => {
  const PATH = [join(prefix, 'bin'), dirname(process.execPath), '/usr/sbin:/usr/bin:/sbin:/bin'].join(':')
  const unit = await readFile(join(service, 'vdsm-tasks.service'), 'utf8')

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

t.test('under systemd it starts, copies, reloads, stops in the middle of a copy, is killed, is upgraded, and is removed as documented', { skip: unlessRoot }, async t => {
  const folder = join(directory, 'host')
  await mkdir(folder)
  const host = spawn('unshare', ['--pid', '--mount', '--cgroup', '--uts', '--ipc', '--net', '--fork', '--kill-child=KILL', '--propagation', 'private',
    join(root, 'test/helpers/systemd-host.sh'), folder, join(directory, first), join(directory, next)], { stdio: ['ignore', 'ignore', 'inherit'] })
  const gone = once(host, 'exit')
  t.teardown(async () => { host.kill('SIGKILL'); await gone })
  const init = await until(() => descendants(host.pid ?? 0).find(pid => commandLine(pid).startsWith('/usr/lib/systemd/systemd --system')), 'systemd')
  const shell = async (script: string) => (await execute('nsenter', ['--target', String(init), '--all', 'env', '-i', 'HOME=/root', 'PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'bash', '-c', script])).stdout
  const cli = 'vdsm-tasks --url unix:/run/vdsm-tasks/agent.sock'
  await until(async () => /running|degraded/.test(await shell('systemctl is-system-running || true')), 'the host to have booted')

  const blocks = [...guide.matchAll(/^```\n(.*?)^```$/gms)].map(([, text = '']) => text)
  /** The commands of a block of the guide. There is no registry here: what they need is in npm's cache since the first test. */
  const documented = (begin: string) => `cd /root; export npm_config_offline=true; set -e; ${blocks.find(text => text.startsWith(begin)) ?? 'false'}`
  await shell(documented(`npm install -g ./${first}`))
  const ready = `until ${cli} images local > /dev/null 2>&1; do sleep 0.1; done`
  await shell(ready)
  t.equal(await shell('systemd-analyze verify vdsm-tasks.service 2>&1'), '')
  await shell('head -c 40000000 /dev/urandom > /var/lib/vdsm-tasks/images/a.raw')
  const same = async (image: string) => { await t.resolves(shell(`cmp /var/lib/vdsm-tasks/images/a.raw /var/lib/vdsm-tasks/images/${image}`), `${image} is a copy`) }

  t.match(await shell(`${cli} copy local/a.raw local/b.qcow2 --verify`), /identical to its source/)
  await shell(`${cli} copy local/a.raw local/c.raw --bandwidth 4M --id c --detach`)
  const pid = await shell('systemctl show -P MainPID vdsm-tasks')
  // below what the unit may write, a reload is enough
  const addDomain = async (id: string, path: string) => await shell(`sed -i 's|"create": true }]|"create": true }, { "id": "${id}", "path": "${path}", "create": true }]|' /etc/vdsm-tasks/config.json`)
  await addDomain('two', '/var/lib/vdsm-tasks/two')
  await shell('systemctl reload vdsm-tasks')
  await until(async () => /two +available/.test(await shell(`${cli} domains`)), 'the new domain')
  t.match(await shell(`${cli} task c`), /state +running/, 'a reload disturbs no copy')

  await shell('systemctl stop vdsm-tasks')
  t.equal(await shell('systemctl show -P Result vdsm-tasks; systemctl show -P ActiveState vdsm-tasks; pgrep -f "vdsm-tasks/[d]ist"; pgrep -x qemu-img; true'), 'success\ninactive\n', 'nothing is left running')
  await addDomain('three', '/srv/three')
  await shell(`mkdir /srv/three; ${documented('mkdir -p /etc/systemd/system/vdsm-tasks.service.d')}`)
  await shell(ready)
  await until(async () => /recover\.local\.c\.raw/.test(await shell(`${cli} tasks`)), 'the agent to go on with the copy')
  await shell('kill -9 $(systemctl show -P MainPID vdsm-tasks)')
  await until(async () => await shell('systemctl show -P NRestarts vdsm-tasks') === '1\n', 'systemd to start it again')
  await shell(ready)
  t.not(await shell('systemctl show -P MainPID vdsm-tasks'), pid)
  await shell(`until ${cli} status local/c.raw | grep -q 'state *ok'; do sleep 0.2; done`)
  await same('c.raw')

  const [copied] = await Promise.all([
    shell(`${cli} copy local/a.raw local/d.raw --bandwidth 200K --id d 2>&1`),
    // slow until it is continued, however long npm takes; whoever continues it
    shell(`until ${cli} task d > /dev/null 2>&1; do sleep 0.1; done; ${documented(`npm install -g ./${next}`)}
      until curl -s -X PATCH --unix-socket /run/vdsm-tasks/agent.sock http://agent/tasks/{d,recover.local.d.raw} -d '{"bandwidth":null}' | grep -q '"state":"running"'; do sleep 0.1; done`)
  ])
  t.match(copied, /(Task recover\.local\.d\.raw goes on with it|The command was sent again as d)[^]*local\/d\.raw (is complete|was complete before)/)
  await same('d.raw')
  const versionOf = (name: string) => `${/\d+\.\d+\.\d+/.exec(name)?.[0]}\n`
  t.equal(await shell('vdsm-tasks --version'), versionOf(next))

  // back to the version before, which is the same, and with nobody who continues what was under way
  await shell('sed -i s/\'"own"\'/\'"manual"\'/ /etc/vdsm-tasks/config.json && systemctl restart vdsm-tasks')
  await shell(`${ready}; ${cli} copy local/a.raw local/e.raw --bandwidth 200K --id e --detach; until ${cli} status local/e.raw | grep -q 'copied .*[1-9] %'; do sleep 0.2; done`)
  await shell(`cd /root && npm install --offline -g ./${first} && systemctl restart vdsm-tasks; ${ready}`)
  t.equal(await shell('vdsm-tasks --version'), versionOf(first))
  t.match(await shell(`${cli} status local/e.raw`), /state +interrupted[^]*what helps +vdsm-tasks .*mend local\/e\.raw/)
  t.match(await shell(`${cli} copy local/a.raw local/e.raw --id e`), /local\/e\.raw is complete.*, in 2 runs/)
  await same('e.raw')
  const log = (await shell('journalctl -u vdsm-tasks -o cat --no-pager')).split('\n').filter(line => line.startsWith('{')).map(line => JSON.parse(line) as Record<string, unknown>)
  t.match(log.find(({ image, state }) => image === 'local/d.raw' && state === 'succeeded'), { task: /d/, runId: String, kind: /^storage\./, durationMs: Number, bytesDone: 40_000_000, result: { bytesMoved: Number } })
  t.same(log.filter(({ level }) => Number(level) >= 50), [])

  const agent = 'curl -s --unix-socket /run/vdsm-tasks/agent.sock http://agent/agent'
  const dropIns = '/etc/systemd/system/vdsm-tasks.service.d'
  const restart = `systemctl daemon-reload && systemctl restart vdsm-tasks && { ${ready}; }`
  const copies = async (name: string) => {
    t.match(await shell(`${cli} copy local/a.raw local/${name}.qcow2 --verify && ${cli} copy local/${name}.qcow2 three/${name}.raw --verify`), /identical to its source/, name)
    await shell(`cmp /var/lib/vdsm-tasks/images/a.raw /srv/three/${name}.raw && ${cli} delete local/${name}.qcow2`)
  }
  const exposure = async () => {
    const said = await shell('systemd-analyze security --no-pager vdsm-tasks.service')
    return Number(/Overall exposure level for \S+: ([\d.]+)/.exec(said)?.[1])
  }
  t.match(JSON.parse(await shell(agent)), { confinement: { fileSystem: 'landlock', user: 'owner' } })
  t.ok(await exposure() <= 2.5)
  await copies('root')
  // a kernel without Landlock
  await shell(`printf '[Service]\nSystemCallFilter=~landlock_create_ruleset landlock_add_rule landlock_restrict_self\n' > ${dropIns}/z-no-landlock.conf; ${restart}`)
  t.match(JSON.parse(await shell(agent)), { confinement: { fileSystem: 'none' } }, 'the unit allows no namespaces')
  await copies('none')
  await shell(`cp "$(npm root -g)/vdsm-tasks/service/bubblewrap.conf" ${dropIns}/bubblewrap.conf; ${restart}`)
  t.match(JSON.parse(await shell(agent)), { confinement: { fileSystem: 'mount-namespace', user: 'owner' } })
  await copies('bubblewrap')
  await shell(`rm ${dropIns}/z-no-landlock.conf ${dropIns}/bubblewrap.conf`)
  // as vdsm, which oVirt's packages make
  await shell('groupadd -f -g 36 kvm36; useradd -u 36 -g 36 -M -s /usr/sbin/nologin vdsm; groupmod -n kvm-before kvm; groupmod -n kvm kvm36; chown -R vdsm:kvm /srv/three')
  await shell(documented('install -m 644 "$(npm root -g)/vdsm-tasks/service/user-vdsm.conf"'))
  await shell(ready)
  t.match(JSON.parse(await shell(agent)), { confinement: { fileSystem: 'landlock', capabilities: 'none', user: 'agent' } })
  t.match(await shell('cat /proc/$(systemctl show -P MainPID vdsm-tasks)/status'), /^Uid:\t36\t36\t36\t36$[^]*^CapPrm:\t0+$[^]*^CapBnd:\t0+$/m)
  t.ok(await exposure() <= 1.5)
  await copies('vdsm')
  t.equal((await shell('stat -c %U:%G /srv/three/vdsm.raw')), 'vdsm:kvm\n')

  await shell(documented('systemctl disable'))
  t.equal(await shell('systemctl daemon-reload; systemctl is-enabled vdsm-tasks 2>/dev/null; ls /etc/vdsm-tasks "$(npm root -g)/vdsm-tasks" 2>/dev/null; command -v vdsm-tasks; pgrep -f "vdsm-tasks/[d]ist"; ls -A /var/lib/vdsm-tasks/images'), '.vdsm-tasks\na.raw\nb.qcow2\nc.raw\nd.raw\ne.raw\n', 'images stay')
})
