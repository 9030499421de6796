import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants } from 'node:fs'
import { mkdtemp, rmdir } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import type { AgentOptions } from '../../helpers/agent.ts'
import { startClusterAgent, type Agent } from './agent.ts'

const script = fileURLToPath(new URL('../../../scripts/gluster-cluster', import.meta.url))

/** Why there can be no cluster here; for `t.test(title, { skip: unlessCluster }, ...)`. */
export const unlessCluster = process.getuid?.() !== 0
  ? 'only root can make name spaces'
  : ['glusterd', 'gluster'].every(isInstalled) ? false : 'GlusterFS is not installed'

export interface Output {
  code: number | null
  stdout: string
  stderr: string
}

export interface AgentPlace extends Partial<Pick<AgentOptions, 'hostId' | 'domains' | 'copy'>> {
  /** On top of the agent's own environment: a PATH in which gluster is another program, for instance. */
  environment?: Readonly<Record<string, string>>
}

/** Three hosts with a glusterd each; they end with the test, also when it dies. */
export interface Cluster {
  /** Runs a command on a host (1 to 3). */
  exec (host: number, ...command: string[]): Promise<Output>
  /** Runs the gluster command on a host; its refusal is an error. */
  gluster (host: number, ...args: string[]): Promise<string>
  /** Starts the built agent on a host. */
  agent (host: number, options?: AgentPlace): Promise<Agent>
  /** Limits what a host can send, so that moving data takes a while. */
  slow (megabits: number): Promise<void>
  fast (): Promise<void>
  /** Cuts the power of a host. */
  cut (host: number): Promise<void>
  /** Switches it on again. */
  boot (host: number): Promise<void>
}

export async function startCluster (t: Test): Promise<Cluster> {
  const parent = await mkdtemp('/var/tmp/vdsm-tasks-test-')
  const env = { ...process.env, GLUSTER_CLUSTER_DIR: join(parent, 'cluster') }
  const child = spawn(script, ['run'], { env, stdio: ['pipe', 'pipe', 'inherit'] })
  t.teardown(async () => {
    child.stdin.end()
    if (child.exitCode === null) await once(child, 'exit')
    await rmdir(parent)
  })
  await new Promise<void>((resolve, reject) => {
    createInterface({ input: child.stdout }).on('line', line => { if (line.startsWith('up:')) resolve() })
    child.once('exit', code => { reject(new Error(`gluster-cluster ended with ${code}`)) })
  })

  const exec: Cluster['exec'] = async (host, ...command) => finish(spawn(script, ['exec', String(host), ...command], { env, stdio: ['ignore', 'pipe', 'pipe'] }))
  const onAll = async (...command: string[]): Promise<void> => {
    await Promise.all([1, 2, 3].map(host => exec(host, ...command)))
  }
  const power = async (what: 'cut' | 'boot', host: number): Promise<void> => {
    const { code, stderr } = await finish(spawn(script, [what, String(host)], { env, stdio: ['ignore', 'pipe', 'pipe'] }))
    if (code !== 0) throw new Error(stderr)
  }
  return {
    exec,
    async gluster (host, ...args) {
      // the agents' looks lock the volumes, too
      const { code, stdout, stderr } = await until(() => exec(host, 'gluster', '--mode=script', ...args), ({ stdout, stderr }) => !/Another transaction is in progress|Locking failed/.test(stdout + stderr))
      if (code !== 0) throw new Error(`gluster ${args.join(' ')}: ${stdout}${stderr}`)
      return stdout
    },
    slow: megabits => onAll('tc', 'qdisc', 'replace', 'dev', 'eth0', 'root', 'tbf', 'rate', `${megabits}mbit`, 'burst', '64k', 'latency', '50ms'),
    cut: host => power('cut', host),
    boot: host => power('boot', host),
    fast: () => onAll('tc', 'qdisc', 'del', 'dev', 'eth0', 'root'),
    agent: async (host, { hostId = `host${host}`, domains = [], copy = {}, environment = {} } = {}) => await startClusterAgent(t, {
      hostId,
      domains,
      copy,
      under: ['env', `GLUSTER_CLUSTER_DIR=${env.GLUSTER_CLUSTER_DIR}`, script, 'exec', String(host), 'env', ...Object.entries(environment).map(([name, value]) => `${name}=${value}`)]
    })
  }
}

function isInstalled (program: string): boolean {
  return (process.env['PATH'] ?? '').split(delimiter).some(folder => {
    try {
      accessSync(join(folder, program), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

async function finish (child: ChildProcessByStdio<null, Readable, Readable>): Promise<Output> {
  const text = async (stream: Readable): Promise<string> => {
    let all = ''
    for await (const chunk of stream) all += String(chunk)
    return all
  }
  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')])
  return { code: typeof code === 'number' ? code : null, stdout, stderr }
}

/** Asks again and again until `check` is satisfied with the answer. */
export async function until<T> (ask: () => Promise<T>, check: (value: T) => boolean, seconds = 30): Promise<T> {
  const end = Date.now() + seconds * 1000
  while (true) {
    const value = await ask()
    if (check(value)) return value
    if (Date.now() > end) throw new Error(`gave up after ${seconds} s; the last answer was ${JSON.stringify(value)}`)
    await new Promise(resolve => { setTimeout(resolve, 200) })
  }
}
