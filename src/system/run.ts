import { constants } from 'node:os'
import { execa } from 'execa'
import { confine, failureMark, notFoundMark, type Confinement } from './confine.ts'
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

  // execa's types know descriptors up to 9; it hands any number on to Node, which takes them all
  const inherited = fds as ReadonlyArray<3>
  const child = execa(command, args, {
    stdio: [options.input === undefined ? 'ignore' : 'pipe', maxOutput === 0 ? 'ignore' : 'pipe', 'pipe', ...inherited],
    extendEnv: false,
    env: { ...minimalEnvironment(), ...env },
    reject: false,
    killSignal: 'SIGKILL',
    // execa's first number is for every descriptor that is not named
    maxBuffer: { stdout: maxOutput === 'streamed' ? Infinity : Math.max(maxOutput, 1), stderr: 1024 * 1024 },
    buffer: { stdout: maxOutput !== 'streamed' },
    stripFinalNewline: false,
    ...(options.input !== undefined && { input: options.input }),
    ...(signal === undefined ? {} : { cancelSignal: signal })
  })
  if (options.onStdout !== undefined) child.stdout?.setEncoding('utf8').on('data', options.onStdout)

  const watched = child.pid === undefined ? undefined : { pid: child.pid, ...(options.paced !== undefined && { paced: options.paced }) }
  if (watched !== undefined) running.add(watched)
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<'late'>(resolve => {
    if (timeoutMs === undefined) return
    timer = setTimeout(() => { child.kill('SIGKILL'); resolve('late') }, timeoutMs)
  })
  const result = await Promise.race([child, late]).finally(() => {
    clearTimeout(timer)
    if (watched !== undefined) running.delete(watched)
  })

  if (result === 'late') {
    throw new CommandError(`${argv[0]} gave no answer for ${timeoutMs} ms and was killed`, { argv, timedOut: true })
  }
  if (result.isCanceled) throw signal?.reason
  const stderr = String(result.stderr ?? '').slice(-stderrTail)
  if (result.code === 'ENOENT') throw new CommandError(`${command} is not installed`, { argv, notFound: true, cause: result.cause })
  // 127 and these words are the launcher's: it is what was started
  const notFound = result.exitCode === 127 && (stderr.startsWith('setpriv: failed to execute') || stderr.startsWith(notFoundMark))
  if (notFound) throw new CommandError(`${argv[0]} is not installed`, { argv, notFound: true, cause: result.cause })
  if ((result.exitCode === 126 || result.exitCode === 125) && stderr.startsWith(failureMark)) {
    throw new CommandError(`${argv[0]} could not be confined, and was not started: ${stderr.trim()}`, { argv, exitCode: result.exitCode, stderr })
  }
  if (result.isMaxBuffer) throw new CommandError(`${argv[0]} printed more than expected and was killed`, { argv, stderr, tooMuchOutput: true })
  if (result.exitCode === undefined && result.signal === undefined) {
    throw new CommandError(`${argv[0]} could not be started: ${result.shortMessage}`, { argv, cause: result.cause })
  }
  const by = result.signal ?? (options.confinement === undefined ? undefined : signalIn(result.exitCode))
  return {
    argv,
    ...(by !== undefined ? { signal: by } : result.exitCode !== undefined ? { exitCode: result.exitCode } : {}),
    stdout: String(result.stdout ?? ''),
    stderr
  }
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
