import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { needs } from './needs.ts'

needs('strace')

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

/** The program is stopped at the calls that are asked for, and not at each of the thousands it begins with. Not together with -b. */
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

/** Runs a program to its end in which every call of one name takes this much longer. Returns its exit status. */
export async function runDelayed (argv: readonly string[], name: string, delayMs: number): Promise<number | null> {
  return await withLog(async log => (await runTraced(argv, ['-e', `trace=${name}`, '-e', `inject=${name}:delay_enter=${delayMs * 1000}`], log)).status)
}

/**
 * Runs a program, and what it starts, to its end, in which calls of one name fail. Returns what it printed.
 *
 * @param when as strace has it: `3` is the third of each thread.
 */
export async function runFailing (argv: readonly string[], name: string, error: string, when: string): Promise<string> {
  const options = ['-f', onlyThose, '-qq', '-o', '/dev/null', '-e', `trace=${name}`, '-e', `inject=${name}:error=${error}:when=${when}`]
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', 'strace', ...options, ...argv], {
    env: { PATH: process.env['PATH'], UV_THREADPOOL_SIZE: '1' }, stdio: ['ignore', 'pipe', 'inherit']
  })
  let printed = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => { printed += text })
  await once(child, 'close')
  return printed
}
