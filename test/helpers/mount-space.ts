import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import type { Test } from 'tap'
import { sh } from './images.ts'
import { until, untilGone } from './processes.ts'

/** Only root can mount real file systems; for `t.test(title, { skip: unlessRoot }, ...)`. */
export const unlessRoot = process.getuid?.() === 0 ? false : 'only root can mount file systems'

/**
 * A mount namespace of its own. What is mounted in it nobody else sees, and it is unmounted when the last process in it
 * is gone, loop devices included. All of those die with this process, however it dies: nothing can be left behind.
 */
export class MountSpace {
  readonly #holder: ChildProcess
  readonly #daemons: ChildProcess[] = []

  private constructor (holder: ChildProcess) {
    this.#holder = holder
  }

  static async make (t: Test): Promise<MountSpace> {
    // it says a word when it is there, and ends when its input does
    const holder = spawn('setpriv', ['--pdeathsig', 'KILL', 'unshare', '--mount', '--propagation', 'private', 'sh', '-c', 'echo there; exec cat'], { stdio: ['pipe', 'pipe', 'inherit'] })
    const space = new MountSpace(holder)
    t.teardown(async () => { await space.#end() })
    await once(holder.stdout, 'data')
    return space
  }

  get #pid (): number {
    if (this.#holder.pid === undefined) throw new Error('the mount namespace was not made')
    return this.#holder.pid
  }

  /** What to put before a command so that it runs in here. */
  get enter (): string[] {
    return ['nsenter', `--mount=/proc/${this.#pid}/ns/mnt`, '--']
  }

  /** Where a path of in here is for everybody. Never for storage that may hang: this process would hang with it. */
  path (path: string): string {
    return `/proc/${this.#pid}/root${path}`
  }

  /** Runs a program in here to its end. */
  async run (program: string, ...args: string[]): Promise<string> {
    const [enter = '', ...options] = this.enter
    return await sh(enter, ...options, program, ...args)
  }

  /** Makes a file system of this type in a file, which takes no more space than is used of it, and mounts it. */
  async mountFile (file: string, bytes: number, make: readonly [string, ...string[]], at: string): Promise<void> {
    const [program, ...args] = make
    await this.run('truncate', '-s', String(bytes), file)
    await this.run(program, ...args, file)
    await this.run('mount', '-o', 'loop', file, at)
  }

  /** Unmounts, as soon as the last one has left. */
  async unmount (at: string): Promise<void> {
    await until(async () => await this.run('umount', at).then(() => true, () => false), `${at} to be unmounted`)
  }

  /** Starts the daemon of a FUSE file system; resolves when it is mounted. */
  async mountFuse (at: string, ...argv: string[]): Promise<ChildProcess> {
    const daemon = spawn('setpriv', ['--pdeathsig', 'KILL', ...this.enter, ...argv], { stdio: ['ignore', 'ignore', 'inherit'] })
    this.#daemons.push(daemon)
    await until(async () => (await this.run('cat', '/proc/mounts')).includes(` ${at} fuse`), `${at} to be mounted`)
    return daemon
  }

  async #end (): Promise<void> {
    const processes = [...this.#daemons, this.#holder]
    // SIGKILL ends a stopped one, too, and with it the file system that waits for its answers
    for (const process of processes) process.kill('SIGKILL')
    await untilGone(...processes.flatMap(({ pid }) => pid ?? []))
  }
}

/**
 * A directory on a file system that can be made to stop answering: a bindfs over a bindfs, of which the lower one is
 * stopped. Whoever waits for the upper one then cannot even be killed, as with a dead NFS server; over a stopped single
 * one they can. The file system itself stays readable from below.
 */
export class HangingStorage {
  readonly #lower: ChildProcess

  private constructor (lower: ChildProcess) {
    this.#lower = lower
  }

  static async mount (space: MountSpace, { below, between, at }: { below: string, between: string, at: string }): Promise<HangingStorage> {
    const lower = await space.mountFuse(between, 'bindfs', '-f', below, between)
    // several threads, or the second caller would wait where it can be killed
    await space.mountFuse(at, 'bindfs', '-f', '--multithreaded', between, at)
    return new HangingStorage(lower)
  }

  /** Nothing is answered from now on. */
  hang (): void { this.#lower.kill('SIGSTOP') }

  /** All that waits is answered. */
  resume (): void { this.#lower.kill('SIGCONT') }
}
