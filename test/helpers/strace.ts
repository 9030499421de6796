import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** The calls that make something durable, or must not happen before something else is. */
const durableCalls = ['fsync', 'fdatasync', 'rename', 'link', 'unlink', 'ftruncate', 'mkdir', 'rmdir']

/** A system call of a program: the so-manyth of this name in one of its threads. */
export interface Call {
  name: string
  number: number
}

interface Ended {
  status: number | null
  signal: NodeJS.Signals | null
}

/**
 * Runs a program with strace. One thread does all file access in it (UV_THREADPOOL_SIZE), because strace counts calls by
 * thread. The programs that it runs are left alone: qemu-img flushes, too. Everything it started ends with it, and with us.
 */
async function runTraced (argv: readonly string[], options: readonly string[], log: string): Promise<Ended> {
  return await strace(argv, ['-b', 'execve', '-qq', ...options], log)
}

async function strace (argv: readonly string[], options: readonly string[], log: string): Promise<Ended> {
  const env = { PATH: process.env['PATH'], UV_THREADPOOL_SIZE: '1' }
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', 'strace', '-f', '-o', log, ...options, ...argv], { env, stdio: ['ignore', 'ignore', 'inherit'] })
  const [status, signal] = await once(child, 'exit') as [number | null, NodeJS.Signals | null]
  return { status, signal }
}

/** The program is stopped at the calls that are asked for, and not at each of the thousands it begins with. strace loses signals with it. */
const onlyThose = '--seccomp-bpf'

async function withLog<T> (work: (log: string) => Promise<T>): Promise<T> {
  const directory = await mkdtemp(join(tmpdir(), 'vdsm-tasks-'))
  try {
    return await work(join(directory, 'log'))
  } finally {
    await rm(directory, { recursive: true })
  }
}

/** Runs a program to its end and returns what strace has logged of it, and of the programs that it runs. */
export async function runLogged (argv: readonly string[], options: readonly string[]): Promise<Ended & { log: string }> {
  return await withLog(async log => ({ ...await strace(argv, [onlyThose, ...options], log), log: await readFile(log, 'utf8') }))
}

/** Runs a program and tells the durable calls of the thread that does its file access, in order. */
export async function callsOf (argv: readonly string[]): Promise<Call[]> {
  return await withLog(async log => {
    const { status, signal } = await runTraced(argv, [onlyThose, '-e', `trace=${durableCalls.join(',')}`], log)
    if (status !== 0) throw new Error(`${argv.join(' ')} ended with ${status ?? signal}`)
    const calls = (await readFile(log, 'utf8')).split('\n').flatMap(line => {
      const match = /^(\d+) +(\w+)\(/.exec(line)
      return match === null ? [] : [{ thread: match[1] ?? '', name: match[2] ?? '' }]
    })
    // whatever runs beside it does fewer
    const byThread = new Map<string, typeof calls>()
    for (const call of calls) byThread.set(call.thread, [...byThread.get(call.thread) ?? [], call])
    const [busiest = []] = [...byThread.values()].sort((a, b) => b.length - a.length)
    const counts = new Map<string, number>()
    return busiest.map(({ name }) => {
      const number = (counts.get(name) ?? 0) + 1
      counts.set(name, number)
      return { name, number }
    })
  })
}

/** Runs a program to its end in which every call of one name takes this much longer. Returns its exit status. */
export async function runDelayed (argv: readonly string[], name: string, delayMs: number): Promise<number | null> {
  return await withLog(async log => (await runTraced(argv, [onlyThose, '-e', `trace=${name}`, '-e', `inject=${name}:delay_enter=${delayMs * 1000}`], log)).status)
}

/** Runs a program, and what it starts, to its end, in which calls of one name fail. Returns what it printed. @param when as strace has it: `3` is the third of each thread. */
export async function runFailing (argv: readonly string[], name: string, error: string, when: string): Promise<string> {
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', 'strace', '-f', '-qq', '-o', '/dev/null', '-e', `trace=${name}`, '-e', `inject=${name}:error=${error}:when=${when}`, ...argv], {
    env: { PATH: process.env['PATH'], UV_THREADPOOL_SIZE: '1' }, stdio: ['ignore', 'pipe', 'inherit']
  })
  let printed = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => { printed += text })
  await once(child, 'close')
  return printed
}

/** Runs a program that is killed as it is about to make a call; returns the signal it ended by. */
export async function runUntilCall (argv: readonly string[], { name, number }: Call): Promise<NodeJS.Signals | null> {
  return await withLog(async log => (await runTraced(argv, ['-e', `trace=${name}`, '-e', `inject=${name}:signal=KILL:when=${number}`], log)).signal)
}
