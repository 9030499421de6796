import { mkdir, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'
import type { DomainStatus } from '../../src/api/domain.ts'
import { startAgent, type AgentProcess } from './agent.ts'
import { temporaryDirectory } from './directory.ts'
import { MountSpace } from './mount-space.ts'
import { descendants, until } from './processes.ts'

/** A directory, and where it is mounted by FUSE: locks of one mount do not reach those of another. */
export interface Mounts {
  below: string
  at: string[]
  start (hostId: string, path: string): Promise<AgentProcess>
}

/** Mounts a directory so many times. */
export async function mountByFuse (t: Test, times: number): Promise<Mounts> {
  const top = await temporaryDirectory(t)
  const below = join(top, 'below')
  const at = Array.from({ length: times }, (_, index) => join(top, `mount${index}`))
  for (const path of [below, ...at]) await mkdir(path)
  const space = await MountSpace.make(t)
  for (const path of at) await space.mountFuse(path, 'bindfs', '-f', '--multithreaded', below, path)
  return {
    below,
    at,
    start: async (hostId, path) => await startAgent(t, {
      hostId, domains: [{ id: 'shared', path, create: true }], copy: { windowSeconds: 0.5 }, under: space.enter
    })
  }
}

export const sharedStatus = async (agent: AgentProcess, domain = 'shared'): Promise<DomainStatus> =>
  (await agent.request<DomainStatus>('GET', `/domains/${domain}`)).body

/** A task body that is about the domain that is shared. */
export const inShared = (spec: object): object => JSON.parse(JSON.stringify(spec).replaceAll('"local"', '"shared"')) as object

/** The host files of a domain. */
export const hostFiles = async (domain: string): Promise<string[]> => await readdir(join(domain, '.vdsm-tasks/hosts'))

/** How many heartbeats this host has written in a domain. */
export async function beatOf (domain: string, hostId: string): Promise<number> {
  const found = await Promise.all((await hostFiles(domain)).map(async name => {
    // of a file that is being written, or is gone, the next look tells
    const text = await readFile(join(domain, '.vdsm-tasks/hosts', name), 'utf8').catch(() => '{}')
    const { hostId: id, beat = 0 } = parsed(text)
    return id === hostId ? beat : 0
  }))
  return Math.max(0, ...found)
}

function parsed (text: string): { hostId?: string, beat?: number } {
  try {
    return JSON.parse(text) as { hostId?: string, beat?: number }
  } catch {
    return {}
  }
}

/** Waits until an agent has come to this judgement of the locks of a domain. */
export async function untilLocks (agent: AgentProcess, state: string, domain = 'shared'): Promise<DomainStatus> {
  return await until(async () => {
    const status = await sharedStatus(agent, domain)
    return status.locks?.state === state && status
  }, `locks to be ${state}`)
}

/** Stops an agent with everything that it has started, or lets it go on. */
export function signalAll (agent: AgentProcess, signal: 'SIGSTOP' | 'SIGCONT'): void {
  const all = [agent.pid, ...descendants(agent.pid)]
  // the parents first: what is stopped starts nothing more
  for (const pid of signal === 'SIGSTOP' ? all : all.reverse()) process.kill(pid, signal)
}

/** Looks at the locks of agents all the time, and tells what was wrong with them. */
export class LockObserver {
  readonly alarms: string[] = []
  readonly #agents = new Set<AgentProcess>()
  readonly #ended = new AbortController()
  readonly #looking: Promise<void>
  readonly #domain: string

  constructor (domain = 'shared') {
    this.#domain = domain
    this.#looking = this.#look()
  }

  watch (agent: AgentProcess): void { this.#agents.add(agent) }

  /** It is about to end, or to be stopped. */
  leave (agent: AgentProcess): void { this.#agents.delete(agent) }

  async end (): Promise<void> {
    this.#ended.abort()
    await this.#looking
  }

  async #look (): Promise<void> {
    while (!this.#ended.signal.aborted) {
      await Promise.all([...this.#agents].map(async agent => {
        const status = await sharedStatus(agent, this.#domain).catch(() => undefined)
        const { locks, code } = status ?? {}
        if (locks?.problems !== undefined || code === 'locks-broken') this.alarms.push(JSON.stringify(status))
      }))
      await sleep(200)
    }
  }
}
