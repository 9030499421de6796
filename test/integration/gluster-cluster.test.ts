import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { until } from '../gluster/cluster/cluster.ts'

t.setTimeout(120_000)

const script = fileURLToPath(new URL('../../scripts/gluster-cluster', import.meta.url))

async function newFolder (t: Test): Promise<string> {
  const parent = await mkdtemp('/var/tmp/vdsm-tasks-test-')
  t.teardown(() => rmdir(parent))
  return join(parent, 'cluster')
}

/** Everything a cluster consists of, as the machine sees it. */
async function traces (folder: string): Promise<string[]> {
  const found: string[] = []
  for (const pid of (await readdir('/proc')).filter(name => /^\d+$/.test(name))) {
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
    if (command.includes(folder)) found.push(command.replaceAll('\0', ' '))
  }
  const mounts = (await readFile('/proc/mounts', 'utf8')).split('\n').filter(line => line.includes(folder))
  const backing = await Promise.all((await readdir('/sys/block')).filter(name => name.startsWith('loop'))
    .map(name => readFile(`/sys/block/${name}/loop/backing_file`, 'utf8').catch(() => '')))
  return [...found, ...mounts, ...backing.filter(file => file.includes(folder)), ...await readdir(folder).catch(() => [])]
}

for (const [how, signal] of [['when standard input ends', undefined], ['when it is told to end', 'SIGTERM'], ['half-way up', 'SIGTERM']] as const) {
  t.test(`a cluster leaves nothing behind ${how}`, async t => {
    const folder = await newFolder(t)
    const child = spawn(script, ['run'], { env: { ...process.env, GLUSTER_CLUSTER_DIR: folder }, stdio: ['pipe', 'pipe', 'ignore'] })
    const exit = once(child, 'exit')
    if (how === 'half-way up') await until(() => traces(folder), found => found.some(trace => trace.includes('node2')))
    else await once(child.stdout, 'data')
    t.ok((await traces(folder)).length > 0)
    if (signal === undefined) child.stdin.end()
    else child.kill(signal)
    await exit
    t.same(await until(() => traces(folder), found => found.length === 0), [])
  })
}

t.test('what a cluster leaves that was killed is removed by down', async t => {
  const folder = await newFolder(t)
  const env = { ...process.env, GLUSTER_CLUSTER_DIR: folder }
  const child = spawn(script, ['up'], { env, stdio: 'ignore' })
  await until(() => traces(folder), found => found.some(trace => trace.includes('node3')))
  child.kill('SIGKILL')
  await once(child, 'exit')
  const [code] = await once(spawn(script, ['down'], { env, stdio: 'ignore' }), 'exit')
  t.equal(code, 0)
  t.same(await until(() => traces(folder), found => found.length === 0), [])
})
