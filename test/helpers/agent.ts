import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { Pool } from 'undici'
import type { Copy, BrokenImage, ImageStatus } from '../../src/api/image.ts'
import type { Problem } from '../../src/api/problem.ts'
import type { Task } from '../../src/api/task.ts'
import { temporaryDirectory } from './directory.ts'
import { needs } from './needs.ts'
import { commandLine, descendants, until, untilGone } from './processes.ts'

needs('qemu-img')

const builtMain = fileURLToPath(new URL('../../dist/main.js', import.meta.url))

export interface AgentOptions {
  hostId?: string
  domains: Array<{ id: string, path: string, layout?: 'ovirt', create?: boolean, bandwidth?: number, leases?: 'flock' | 'sanlock', owner?: { uid: number, gid: number }, mode?: string }>
  sanlock?: { hostId: number }
  discover?: string[]
  copy?: { maxConcurrent?: number, parallelWindows?: number, windowSeconds?: number, bandwidth?: number, nice?: number, ioPriority?: 'normal' | 'low' | 'idle', clone?: boolean, directIo?: boolean }
  recovery?: 'manual' | 'own' | 'any'
  gluster?: { pollSeconds?: number }
  tasks?: { retentionSeconds?: number, maxActive?: number, acceptDeadlineSeconds?: number }
  /** Another build of the agent than that of this directory. */
  main?: string
  /** A program and its options that runs the agent, strace for instance. */
  under?: readonly string[]
  /** Memory file systems that only the agent and its children see; they go with it. */
  mounts?: Array<{ path: string, bytes: number }>
}

export interface Reply<T> {
  status: number
  headers: Record<string, string | string[] | undefined>
  body: T
}

/** Starts the built agent as a process of its own, on a socket in a directory of its own. It goes with the test, also when that is killed. */
export async function startAgent (t: Test, options: AgentOptions): Promise<AgentProcess> {
  const directory = await temporaryDirectory(t)
  const socket = join(directory, 'agent.sock')
  const { hostId = 'node1', domains, recovery = 'manual', copy = {}, gluster = {}, tasks = {}, discover = [], sanlock = {}, main = builtMain, under = [], mounts = [] } = options
  const config = join(directory, 'config.json')
  await writeFile(config, JSON.stringify({ listen: { unix: socket }, hostId, domains, discover, recovery, copy, gluster, tasks, sanlock, log: { level: 'warn' } }))
  const mounting = mounts.map(({ path, bytes }) => `mount -t tmpfs -o size=${bytes} tmpfs '${path}'; `).join('')
  const argv = [
    ...mounts.length === 0 ? [] : ['unshare', '--mount', ...process.getuid?.() === 0 ? [] : ['--map-root-user'], 'sh', '-ec', `${mounting}exec "$@"`, 'sh'],
    'setpriv', '--pdeathsig', 'KILL', ...under.length === 0 ? [] : [...under, 'setpriv', '--pdeathsig', 'KILL'], process.execPath, main, '--config', config
  ]
  // without what tap puts into the environment of its tests: this is the agent as it is installed
  const child = spawn(argv[0] ?? '', argv.slice(1), { stdio: ['ignore', 'pipe', 'pipe'], env: { PATH: process.env['PATH'], HOME: directory } })
  const agent = new AgentProcess(child, socket, config)
  t.teardown(async () => { await agent.kill() })
  await agent.listening
  // it says that it listens after a while, also when its domains are still being prepared
  for (const { id, path } of domains) {
    if (id === 'local') await until(async () => (await agent.request<{ state: string }>('GET', `/domains/${id}`)).body.state === 'available', `${path} to be available`)
  }
  return agent
}

/** A running agent and its HTTP interface. */
export class AgentProcess {
  readonly #child: ChildProcess
  readonly #pool: Pool
  readonly socketPath: string
  readonly #config: string
  readonly #exited: Promise<unknown>
  /** Resolves when it listens and its domains were looked at. */
  readonly listening: Promise<void>
  /** What it has logged: one JSON object a line. */
  log = ''

  constructor (child: ChildProcess, socket: string, config: string) {
    this.#config = config
    this.#child = child
    this.socketPath = socket
    this.#exited = once(child, 'exit')
    this.#pool = new Pool('http://localhost', { socketPath: socket, connections: 64, headersTimeout: 0, bodyTimeout: 0 })
    child.stdout?.setEncoding('utf8').on('data', (text: string) => { this.log += text })
    this.listening = new Promise((resolve, reject) => {
      let words = ''
      child.stderr?.setEncoding('utf8').on('data', (text: string) => {
        words += text
        if (words.includes(' listens on ')) resolve()
      })
      child.once('exit', (status, signal) => { reject(new Error(`the agent has ended (${status ?? signal}): ${words}\n${this.log}`)) })
    })
    // whoever waits for it is told; nobody else needs to be
    this.listening.catch(() => {})
  }

  get pid (): number {
    if (this.#child.pid === undefined) throw new Error('the agent was not started')
    return this.#child.pid
  }

  /** Where a path is that only the agent sees. */
  within (path: string): string {
    return `/proc/${this.pid}/root${path}`
  }

  async request<T = never> (method: 'GET' | 'PUT' | 'PATCH' | 'DELETE', path: string, { body, headers = {} }: { body?: unknown, headers?: Record<string, string> } = {}): Promise<Reply<T>> {
    const response = await this.#pool.request({
      method,
      path,
      headers: { ...headers, ...(body !== undefined && { 'content-type': 'application/json' }) },
      ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) })
    })
    const text = await response.body.text()
    return { status: response.statusCode, headers: response.headers, body: (text === '' ? undefined : JSON.parse(text)) as T }
  }

  async put (id: string, spec: unknown, headers: Record<string, string> = {}): Promise<Reply<Task>> {
    // however busy the machine is, the answer is to be the one of the accept step
    return await this.request('PUT', `/tasks/${id}`, { body: spec, headers: { prefer: 'wait=60', ...headers } })
  }

  /** A PUT that must be accepted. */
  async accept (id: string, spec: unknown): Promise<Task> {
    const { status, body } = await this.put(id, spec)
    if (status !== 202) throw new Error(`task ${id} was not accepted: ${JSON.stringify(body)}`)
    return body
  }

  /** A PUT that is expected to be refused. */
  async refused (id: string, spec: unknown, headers: Record<string, string> = {}): Promise<Reply<Problem & Record<string, unknown>>> {
    return await this.request('PUT', `/tasks/${id}`, { body: spec, headers: { prefer: 'wait=60', ...headers } })
  }

  async task (id: string): Promise<Task> {
    return (await this.request<Task>('GET', `/tasks/${id}`)).body
  }

  /** The task when it has finished. */
  async finished (id: string): Promise<Task> {
    for (;;) {
      const { body, status } = await this.request<Task>('GET', `/tasks/${id}`, { headers: { prefer: 'wait=60' } })
      if (status !== 200) throw new Error(`task ${id}: ${JSON.stringify(body)}`)
      if (body.endedAt !== undefined) return body
    }
  }

  /** Does a task and returns it when it has finished. */
  async done (id: string, spec: unknown): Promise<Task> {
    const { body, status } = await this.put(id, spec)
    if (status >= 300) throw new Error(`task ${id} was refused: ${JSON.stringify(body)}`)
    return await this.finished(id)
  }

  async image (domain: string, image: string): Promise<Reply<ImageStatus & Problem>> {
    return await this.request('GET', `/domains/${domain}/images/${encodeURIComponent(image)}`)
  }

  async fixes (domain: string): Promise<BrokenImage[]> {
    return (await this.request<{ items: BrokenImage[] }>('GET', `/domains/${domain}/fixes`)).body.items
  }

  async copies (domain: string): Promise<Copy[]> {
    return (await this.request<{ items: Copy[] }>('GET', `/domains/${domain}/copies`)).body.items
  }

  /** Waits until this much of the disk is durable on the target, by the record on the storage. */
  async untilDone (domain: string, image: string, bytes: number): Promise<ImageStatus> {
    return await until(async () => {
      const { body, status } = await this.image(domain, image)
      if (status !== 200 || body.state !== 'copying') throw new Error(`${image} is not being copied: ${JSON.stringify(body)} ${JSON.stringify((await this.request('GET', '/tasks?state=failed,rejected')).body)}`)
      return (body.copy?.bytesDone ?? 0) >= bytes && body
    })
  }

  /** The processes of ours below this one whose command line has this in it. */
  children (part: string): number[] {
    return descendants(this.pid).filter(pid => commandLine(pid).includes(part))
  }

  /** Changes its configuration and tells it so. Without a change, the file is no JSON any more. */
  async reconfigure (change: object | undefined): Promise<void> {
    const config: object = JSON.parse(await readFile(this.#config, 'utf8'))
    await writeFile(this.#config, change === undefined ? '{' : JSON.stringify({ ...config, ...change }))
    this.#child.kill('SIGHUP')
    if (change === undefined) {
      await until(() => this.log.includes('the configuration cannot be put in force'))
      await writeFile(this.#config, JSON.stringify(config))
    }
  }

  /** Kills it the hard way and waits until it and everything below it is gone. */
  async kill (): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const below = descendants(this.pid)
    this.#child.kill('SIGKILL')
    await this.#exited
    await untilGone(...below)
    await this.#pool.destroy()
  }

  /** Asks it to stop; returns its exit status. */
  async stop (): Promise<number | null> {
    this.#child.kill('SIGTERM')
    await this.#exited
    await this.#pool.destroy()
    return this.#child.exitCode
  }
}

/** A limit (bytes per second) with which a copy does its first windows and then stands still, for as long as a test needs. */
export const stalled = 1

export const copySpec = (source: string, target: string, more: object = {}): object => ({
  kind: 'storage.copyImage',
  source: { domain: 'local', image: source },
  target: { domain: 'local', image: target },
  ...more
})

export const mendSpec = (image: string, more: object = {}): object => ({ kind: 'storage.mendImage', domain: 'local', image, ...more })

export const deleteSpec = (image: string): object => ({ kind: 'storage.deleteImage', domain: 'local', image })
