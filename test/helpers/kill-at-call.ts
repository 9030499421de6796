import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { access, mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { sh } from './images.ts'
import { needs } from './needs.ts'

needs('gcc')

/** A durable call of a program: the so-manyth of this name in one of its threads. */
export interface Call {
  name: string
  number: number
}

const source = fileURLToPath(new URL('kill-at-call.c', import.meta.url))
const cache = fileURLToPath(new URL('../../node_modules/.cache/kill-at-call/', import.meta.url))
let library: Promise<string> | undefined

/** Compiles it, once for each of its states. */
async function compile (): Promise<string> {
  const digest = createHash('sha256').update(await readFile(source)).digest('hex').slice(0, 16)
  const path = join(cache, `${digest}-${process.arch}.so`)
  if (await access(path).then(() => true, () => false)) return path
  await mkdir(cache, { recursive: true })
  // others may do the same at this moment
  await sh('gcc', '-O1', '-Wall', '-shared', '-fPIC', '-o', `${path}.${process.pid}`, source)
  await rename(`${path}.${process.pid}`, path)
  return path
}

/**
 * Runs a program with the library. One thread does all file access in it (UV_THREADPOOL_SIZE), because calls are counted
 * by thread. The programs that it runs are left alone: qemu-img flushes, too. It ends with us, and they with it.
 */
async function runWith (argv: readonly string[], option: string): Promise<{ status: number | null, signal: NodeJS.Signals | null }> {
  library ??= compile()
  const preload = `LD_PRELOAD=${await library}`
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', 'env', preload, option, ...argv], {
    env: { PATH: process.env['PATH'], UV_THREADPOOL_SIZE: '1' }, stdio: ['ignore', 'ignore', 'inherit']
  })
  const [status, signal] = await once(child, 'exit') as [number | null, NodeJS.Signals | null]
  return { status, signal }
}

/** Runs a program and tells the durable calls of the thread that does its file access, in order. */
export async function callsOf (argv: readonly string[]): Promise<Call[]> {
  const directory = await mkdtemp(join(tmpdir(), 'vdsm-tasks-'))
  try {
    const { status, signal } = await runWith(argv, `LOG_CALLS=${join(directory, 'log')}`)
    if (status !== 0) throw new Error(`${argv.join(' ')} ended with ${status ?? signal}`)
    const byThread = new Map<string, string[]>()
    for (const line of (await readFile(join(directory, 'log'), 'utf8')).trim().split('\n')) {
      const [thread = '', name = ''] = line.split(' ')
      byThread.set(thread, [...byThread.get(thread) ?? [], name])
    }
    // whatever runs beside it does fewer
    const [busiest = []] = [...byThread.values()].sort((a, b) => b.length - a.length)
    return busiest.map((name, index) => ({ name, number: busiest.slice(0, index + 1).filter(other => other === name).length }))
  } finally {
    await rm(directory, { recursive: true })
  }
}

/** Runs a program that is killed as it is about to make a call; returns the signal it ended by. */
export async function runUntilCall (argv: readonly string[], { name, number }: Call): Promise<NodeJS.Signals | null> {
  return (await runWith(argv, `KILL_AT_CALL=${name}:${number}`)).signal
}
