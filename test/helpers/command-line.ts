import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'

/** The built command line, for a shell. */
export const commandLineMain = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))

/** A running command line, and what it has said so far. */
export interface Running {
  child: ChildProcess
  stdout (): string
  stderr (): string
  /** Resolves when this was said, on either stream. */
  says (what: RegExp): Promise<void>
  type (text: string): void
  /** The exit status, or the signal that ended it. */
  ended: Promise<number | NodeJS.Signals | null>
}

export interface Surroundings {
  env?: NodeJS.ProcessEnv
  cwd?: string
}

/** What a finished command line has said. */
export interface Finished {
  status: number | NodeJS.Signals | null
  stdout: string
  stderr: string
}

/** Starts the built command line, its streams in pipes. */
export function startCommand (t: Test, args: readonly string[], surroundings: Surroundings = {}): Running {
  return startProgram(t, process.execPath, [commandLineMain, ...args], surroundings)
}

/** Starts it on a terminal of 100 columns: `script` makes one, and hands on what is typed. */
export function startOnTerminal (t: Test, args: readonly string[], surroundings: Surroundings = {}): Running {
  const words = [process.execPath, commandLineMain, ...args].map(word => `'${word}'`).join(' ')
  return startProgram(t, 'script', ['--quiet', '--return', '--command', `stty cols 100 rows 30; exec ${words}`, '/dev/null'], surroundings)
}

/** Runs the built command line to its end. */
export async function runCommand (t: Test, args: readonly string[], surroundings: Surroundings = {}): Promise<Finished> {
  const running = startCommand(t, args, surroundings)
  const status = await running.ended
  return { status, stdout: running.stdout(), stderr: running.stderr() }
}

/** Starts a program, its streams in pipes. */
export function startProgram (t: Test, program: string, argv: readonly string[], { env = {}, cwd }: Surroundings): Running {
  const child = spawn(program, argv, { cwd, stdio: ['pipe', 'pipe', 'pipe'], env: { PATH: process.env['PATH'], TERM: 'xterm-256color', SHELL: '/bin/sh', ...env } })
  let stdout = ''
  let stderr = ''
  const listeners = new Set<() => void>()
  const hear = (keep: (text: string) => void) => (text: string) => {
    keep(text)
    for (const listener of listeners) listener()
  }
  child.stdout.setEncoding('utf8').on('data', hear(text => { stdout += text }))
  child.stderr.setEncoding('utf8').on('data', hear(text => { stderr += text }))
  // it may end before it has read what was typed
  child.stdin.on('error', () => {})
  const ended = once(child, 'close').then(([status, signal]) => status ?? signal)
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
  })
  return {
    child,
    stdout: () => stdout,
    stderr: () => stderr,
    says: async what => await new Promise((resolve, reject) => {
      const look = () => {
        if (!what.test(stdout) && !what.test(stderr)) return
        listeners.delete(look)
        resolve()
      }
      listeners.add(look)
      look()
      ended.then(() => { reject(new Error(`it ended without saying ${what}:\n${stdout}${stderr}`)) }, reject)
    }),
    type: text => { child.stdin.write(text) },
    ended
  }
}
