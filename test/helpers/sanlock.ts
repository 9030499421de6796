import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import { temporaryDirectory } from './directory.ts'
import { sh } from './images.ts'
import { MountSpace } from './mount-space.ts'
import { needs } from './needs.ts'
import { until, untilGone } from './processes.ts'

needs('sanlock')

/** Where the daemon may not raise its limits (a container without CAP_SYS_RESOURCE) it ends; it does not need to. */
const limitShim = `#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/resource.h>
int setrlimit (__rlimit_resource_t resource, const struct rlimit *limit) {
  if (resource == RLIMIT_MEMLOCK || resource == RLIMIT_RTPRIO) return 0;
  int (*next) (__rlimit_resource_t, const struct rlimit *) = dlsym(RTLD_NEXT, "setrlimit");
  return next(resource, limit);
}
`

async function makeShim (t: Test): Promise<string> {
  const directory = await temporaryDirectory(t)
  const [source, library] = [join(directory, 'limits.c'), join(directory, 'limits.so')]
  await writeFile(source, limitShim)
  await sh('gcc', '-shared', '-fPIC', '-o', library, source, '-ldl')
  return library
}

/** A host with a real daemon of sanlock: a mount namespace with a /run of its own, where the daemon listens. */
export class SanlockHost {
  readonly space: MountSpace
  readonly name: string
  readonly #shim: string
  readonly #holders: ChildProcess[] = []
  #daemon: ChildProcess | undefined

  private constructor (space: MountSpace, name: string, shim: string) {
    this.space = space
    this.name = name
    this.#shim = shim
  }

  static async make (t: Test, name: string): Promise<SanlockHost> {
    const [space, shim] = await Promise.all([MountSpace.make(t), makeShim(t)])
    const host = new SanlockHost(space, name, shim)
    t.teardown(async () => { await host.#end() })
    await space.run('mount', '-t', 'tmpfs', 'tmpfs', '/run')
    await space.run('mkdir', '/run/sanlock')
    await host.start()
    return host
  }

  /** What to put before a command so that it runs on this host. */
  get enter (): string[] { return this.space.enter }

  /** Starts the daemon; resolves when it answers. */
  async start (): Promise<void> {
    this.#daemon = this.#spawn(['env', `LD_PRELOAD=${this.#shim}`, 'sanlock', 'daemon', '-D', '-w', '0', '-l', '0', '-h', '0', '-U', 'root', '-G', 'root', '-e', this.name])
    await until(async () => await this.client('gets').then(() => true, () => false), `sanlock to answer on ${this.name}`)
  }

  /** Kills the daemon the hard way: nobody renews the leases of this host any more. */
  async kill (): Promise<void> {
    await endOf(this.#daemon)
    this.#daemon = undefined
  }

  /** The daemon answers nothing from now on. */
  freeze (): void {
    this.#daemon?.kill('SIGSTOP')
  }

  /** Runs a command of the client here. Rejects with what it printed when it fails. */
  async client (...args: string[]): Promise<string> {
    return await this.space.run('sanlock', 'client', ...args)
  }

  /** Joins the lockspace of a domain, in which a host counts as dead `8 * ioSeconds + 60` seconds after its last renewal. */
  async join (path: string, domain: string, hostId: number, ioSeconds: number): Promise<void> {
    await this.client('add_lockspace', '-o', String(ioSeconds), '-s', lockspaceOf(path, domain, hostId))
  }

  /** A process that takes a lease as vdsm would, or is refused. */
  async take (resource: string): Promise<{ taken: boolean, release: () => Promise<void> }> {
    const holder = this.#spawn(['sanlock', 'client', 'command', '-r', resource, '-c', '/bin/sh', '-c', 'echo taken; exec sleep 1000'])
    this.#holders.push(holder)
    let words = ''
    holder.stdout?.setEncoding('utf8').on('data', (text: string) => { words += text })
    await until(() => words.includes('taken') || holder.exitCode !== null)
    return { taken: words.includes('taken'), release: async () => { await endOf(holder) } }
  }

  #spawn (argv: readonly string[]): ChildProcess {
    return spawn('setpriv', ['--pdeathsig', 'KILL', ...this.enter, ...argv], { stdio: ['ignore', 'pipe', 'ignore'] }).on('error', () => {})
  }

  async #end (): Promise<void> {
    await Promise.all([this.#daemon, ...this.#holders].map(endOf))
  }
}

async function endOf (child: ChildProcess | undefined): Promise<void> {
  if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill('SIGKILL')
  await ended
  await untilGone(child.pid)
}

// a colon is what separates the members
const escaped = (path: string) => path.replaceAll(':', '\\:')

/** The lockspace of a domain, as sanlock's command line names it, with the number of a host. */
export const lockspaceOf = (path: string, domain: string, hostId: number): string => `${domain}:${hostId}:${escaped(path)}/dom_md/ids:0`

/** The lease of a volume, as sanlock's command line names it. */
export const leaseOf = (path: string, domain: string, image: string, volume: string): string => `${domain}:${volume}:${escaped(path)}/images/${image}/${volume}.lease:0`

/** Makes the lockspace of a domain, as vdsm does with the domain. */
export async function makeLockspace (path: string, domain: string, ioSeconds: number): Promise<void> {
  await sh('sanlock', 'direct', 'init', '-o', String(ioSeconds), '-s', lockspaceOf(path, domain, 0))
}

/** Who has a lease, by the storage: the number of a host; 0 for nobody. */
export async function ownerOf (resource: string): Promise<number> {
  const words = await sh('sanlock', 'direct', 'read_leader', '-r', resource)
  const number = (key: string) => Number(new RegExp(`^${key} (\\d+)$`, 'm').exec(words)?.[1])
  return number('timestamp') === 0 ? 0 : number('owner_id')
}
