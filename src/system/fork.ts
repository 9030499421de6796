import { ChildProcess, fork } from 'node:child_process'
import { Socket } from 'node:net'
import { extname } from 'node:path'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { escapeUnprintable, escapeUnprintableLines } from '../unprintable.ts'
import { fallbackVariable } from './confine.ts'
import { registeredMark, underSanlock } from './registration.ts'

export interface ForkOptions {
  /** A command that runs it, with its options: `nice`, say. */
  under?: readonly string[]
  /** sanlock is to know it, and to end it when this host loses its leases. */
  registered?: boolean
  /** What `ps` is to show of it beside its module: of two that hang, people want to know which is which. The child does not read it. */
  shown?: readonly string[]
  /** How many file operations may wait for the storage at the same time; 4 by default. */
  threads?: number
}

/**
 * Starts one of our own modules as a child process with a message channel, bound to this process's life:
 * it gets SIGKILL when this one dies, however it dies. One that cannot be started tells so by 'error'.
 *
 * @param module URL of the module without its extension: the child is what this process is, sources or build.
 */
export function forkBound (module: URL, options: ForkOptions = {}): ChildProcess {
  try {
    return start(module, options)
  } catch (error) {
    // Node emits only some reasons and throws the others, as ENOMEM on a host that promises no more memory than it has. The
    // methods of a ChildProcess that has none are not to be called: kill() would mean process 0, which is our own group
    const failed = Object.assign(new ChildProcess(), { kill: () => false, ref: () => {}, unref: () => {} })
    process.nextTick(() => { failed.emit('error', error) })
    return failed
  }
}

/**
 * Of V8's own threads, a process that mostly waits for the storage needs no more. And its young objects, which the block
 * status of a fragmented disk makes by the million, need not take up 48 MiB.
 */
const modest = ['--v8-pool-size=1', '--max-semi-space-size=4']

function start (module: URL, { under = [], registered = false, shown = [], threads }: ForkOptions): ChildProcess {
  const file = fileURLToPath(module) + extname(import.meta.url)
  const child = fork(file, shown.map(escapeUnprintable), {
    execPath: 'setpriv',
    execArgv: ['--no-new-privs', '--pdeathsig', 'KILL', '--', ...under, ...registered ? underSanlock : [], process.execPath, ...modest, ...process.execArgv],
    // sanlock says a word on its standard output
    stdio: ['ignore', registered ? 'ignore' : 'pipe', 'pipe', 'ipc'],
    env: {
      PATH: process.env['PATH'],
      LC_ALL: 'C',
      NODE_OPTIONS: process.env['NODE_OPTIONS'],
      ...(threads !== undefined && { UV_THREADPOOL_SIZE: String(threads) }),
      ...(registered && { [registeredMark]: '1' }),
      ...withoutLandlock()
    }
  })
  for (const stream of [child.stdout, child.stderr]) relay(stream)
  return child
}

/** What it says of errors quotes what others wrote, and Node prints those that nobody has caught as they are. */
function relay (stream: Readable | null): void {
  stream?.setEncoding('utf8').on('data', (text: string) => { process.stderr.write(escapeUnprintableLines(text)) })
  // that something could still be said keeps nobody alive
  if (stream instanceof Socket) stream.unref()
}

/** What the agent has found out for all. */
function withoutLandlock (): Record<string, string> {
  const fallback = process.env[fallbackVariable]
  return fallback === undefined ? {} : { [fallbackVariable]: fallback }
}
