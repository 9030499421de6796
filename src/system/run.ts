import { spawn, type ChildProcess } from 'node:child_process'
import { constants } from 'node:os'
import { confine, failureMark, notFoundMark, type Confinement } from './confine.ts'
import { hasErrno } from './errno.ts'
import { signalWords } from './signals.ts'
import type { Watched } from './standstill.ts'

/** What an external program left behind. Exit codes are data here: whether one is an error is for the caller to say. */
export interface RunResult {
  argv: readonly string[]
  /** Absent when the program was ended by a signal. */
  exitCode?: number
  signal?: string
  stdout: string
  /** The last 4,000 characters of standard error. */
  stderr: string
}

export interface RunOptions {
  /** Descriptors handed to the program as 3, 4, 5 ... in this order. Nothing else is inherited. */
  fds?: readonly number[]
  /** Aborting kills the program with SIGKILL; `run` rejects with the signal's reason after it is gone. */
  signal?: AbortSignal
  /** Milliseconds until the program is killed and `run` rejects, whether or not the kernel lets go of it by then. */
  timeoutMs?: number
  /**
   * Characters of standard output that are accepted before the program is killed; 0 discards the output. Default 64 Mi.
   * `streamed`: without a limit, and only `onStdout` gets it.
   */
  maxOutput?: number | 'streamed'
  /** Takes from the program every right that it does not need. Without it, it has those of this process. */
  confinement?: Confinement
  /** What it reads from standard input. Without it there is nothing to be read. */
  input?: string
  /** Environment on top of the minimal one. */
  env?: Readonly<Record<string, string>>
  /** It rests on purpose between two pieces of work. */
  paced?: boolean
  /** Called with each piece of standard output as it comes. */
  onStdout?: (text: string) => void
}

/** An external program could not be run, was killed, or ended with a status its caller cannot use. */
export class CommandError extends Error {
  readonly argv: readonly string[]
  readonly exitCode: number | undefined
  readonly signal: string | undefined
  readonly stderr: string
  readonly timedOut: boolean
  /** The program is not installed. */
  readonly notFound: boolean
  /** It printed more than `maxOutput`. */
  readonly tooMuchOutput: boolean

  constructor (message: string, of: { argv: readonly string[], exitCode?: number | undefined, signal?: string | undefined, stderr?: string, timedOut?: boolean, notFound?: boolean, tooMuchOutput?: boolean, cause?: unknown }) {
    super(message, { cause: of.cause })
    this.name = 'CommandError'
    this.argv = of.argv
    this.exitCode = of.exitCode
    this.signal = of.signal
    this.stderr = of.stderr ?? ''
    this.timedOut = of.timedOut ?? false
    this.notFound = of.notFound ?? false
    this.tooMuchOutput = of.tooMuchOutput ?? false
  }
}

const stderrTail = 4000
const maxStderr = 1024 * 1024

const running = new Set<Watched>()

/** The programs that this process runs at the moment. */
export function runningPrograms (): Watched[] {
  return [...running]
}

// Children see no more of the agent's environment than they need; messages are matched, so they stay in English.
function minimalEnvironment (): Record<string, string> {
  return { PATH: process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' }
}

/**
 * Runs a program without a shell and resolves when it has ended.
 *
 * The program dies with this process (`setpriv --pdeathsig KILL`, the last change of credentials in the chain: a
 * later one would clear it), and gets no rights that this process does not have. Rejects with CommandError when it cannot
 * be started, takes too long, or prints too much.
 */
export async function run (argv: readonly [string, ...string[]], options: RunOptions = {}): Promise<RunResult> {
  const { fds = [], maxOutput = 64 * 1024 * 1024, timeoutMs, signal } = options
  signal?.throwIfAborted()

  const launcher = options.confinement === undefined
    ? ['setpriv', '--no-new-privs', '--pdeathsig', 'KILL', '--']
    : await confine(options.confinement, fds, options.env)
  const [command = '', ...args] = [...launcher, ...argv]
  const env = options.confinement === undefined ? options.env : {}

  const { child, ended } = start(command, args, { env: { ...minimalEnvironment(), ...env }, fds, maxOutput, options })
  const watched = child?.pid === undefined ? undefined : { pid: child.pid, ...(options.paced !== undefined && { paced: options.paced }) }
  if (watched !== undefined) running.add(watched)
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<'late'>(resolve => {
    if (timeoutMs === undefined) return
    timer = setTimeout(() => { child?.kill('SIGKILL'); resolve('late') }, timeoutMs)
  })
  const result = await Promise.race([ended, late]).finally(() => {
    clearTimeout(timer)
    if (watched !== undefined) running.delete(watched)
  })

  if (result === 'late') {
    throw new CommandError(`${argv[0]} gave no answer for ${timeoutMs} ms and was killed`, { argv, timedOut: true })
  }
  if (result.isCanceled) throw signal?.reason
  const { error, exitCode } = result
  const stderr = result.stderr.slice(-stderrTail)
  if (hasErrno(error, 'ENOENT')) throw new CommandError(`${command} is not installed`, { argv, notFound: true, cause: error })
  if (error !== undefined) throw new CommandError(`${argv[0]} could not be started: ${error.message}`, { argv, cause: error })
  // 127 and these words are the launcher's: it is what was started
  const notFound = exitCode === 127 && (stderr.startsWith('setpriv: failed to execute') || stderr.startsWith(notFoundMark))
  if (notFound) throw new CommandError(`${argv[0]} is not installed`, { argv, notFound: true })
  if ((exitCode === 126 || exitCode === 125) && stderr.startsWith(failureMark)) {
    throw new CommandError(`${argv[0]} could not be confined, and was not started: ${stderr.trim()}`, { argv, exitCode, stderr })
  }
  if (result.isTooMuch) throw new CommandError(`${argv[0]} printed more than expected and was killed`, { argv, stderr, tooMuchOutput: true })
  const by = result.signal ?? (options.confinement === undefined ? undefined : signalIn(result.exitCode))
  return {
    argv,
    ...(by !== undefined ? { signal: by } : exitCode !== undefined ? { exitCode } : {}),
    stdout: result.stdout,
    stderr
  }
}

/** How a program ended, or why it was not started. */
interface Ended {
  exitCode: number | undefined
  signal: string | undefined
  stdout: string
  stderr: string
  isTooMuch: boolean
  isCanceled: boolean
  error?: Error
}

interface Start {
  env: Record<string, string>
  fds: readonly number[]
  maxOutput: number | 'streamed'
  options: RunOptions
}

/** With Node alone: execa takes a millisecond of processor time more for each, and a copy runs one for every window. */
function start (command: string, args: readonly string[], { env, fds, maxOutput, options }: Start): { child: ChildProcess | undefined, ended: Promise<Ended> } {
  const { input, signal, onStdout } = options
  const said = { stdout: '', stderr: '', isTooMuch: false, isCanceled: false }
  let child: ChildProcess
  try {
    child = spawn(command, args, { env, stdio: [input === undefined ? 'ignore' : 'pipe', maxOutput === 0 ? 'ignore' : 'pipe', 'pipe', ...fds] })
  } catch (error) {
    // Node emits some reasons, and throws the others, as E2BIG
    if (!(error instanceof Error)) throw error
    return { child: undefined, ended: Promise.resolve({ ...said, exitCode: undefined, signal: undefined, error }) }
  }
  const kill = () => { child.kill('SIGKILL') }
  const take = (name: 'stdout' | 'stderr', most: number) => {
    child[name]?.setEncoding('utf8').on('data', (text: string) => {
      said[name] += text
      if (said[name].length <= most) return
      said[name] = said[name].slice(0, most)
      said.isTooMuch = true
      kill()
    })
  }
  if (onStdout !== undefined) child.stdout?.setEncoding('utf8').on('data', onStdout)
  if (maxOutput === 'streamed') child.stdout?.resume()
  else take('stdout', maxOutput)
  take('stderr', maxStderr)
  // a program that does not want all of it has closed it
  child.stdin?.on('error', () => {}).end(input)
  const abort = () => { said.isCanceled = true; kill() }
  if (signal?.aborted === true) abort()
  else signal?.addEventListener('abort', abort, { once: true })
  const ended = new Promise<Ended>(resolve => {
    child.once('error', error => { if (child.pid === undefined) resolve({ ...said, exitCode: undefined, signal: undefined, error }) })
    child.once('close', (code, by) => { resolve({ ...said, exitCode: code ?? undefined, signal: by ?? undefined }) })
  }).finally(() => { signal?.removeEventListener('abort', abort) })
  return { child, ended }
}

/** bubblewrap, where it confines a program, tells by its own status which signal has ended that. */
function signalIn (status: number | undefined): string | undefined {
  return Object.entries(constants.signals).find(([, number]) => number + 128 === status)?.[0]
}

/** Like `run`, but any exit status other than 0 (or those in `accept`) is a CommandError. */
export async function runOk (argv: readonly [string, ...string[]], options: RunOptions & { accept?: readonly number[] } = {}): Promise<RunResult> {
  const result = await run(argv, options)
  const { exitCode, signal, stderr } = result
  if (exitCode === 0 || (exitCode !== undefined && options.accept?.includes(exitCode) === true)) return result
  const how = signal === undefined ? `ended with status ${exitCode}` : signalWords(signal)
  throw new CommandError(`${argv[0]} ${how}: ${stderr.trim().split('\n').at(-1) ?? ''}`, { argv, exitCode, signal, stderr })
}
