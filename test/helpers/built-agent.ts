import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { until } from './processes.ts'
import { needs } from './needs.ts'

needs('qemu-img')

/** The agent as users run it: the built program, in a directory of its own. */
export interface BuiltAgent {
  address: string
  pid: number
  directory: string
  /** Ends it as the plug would. */
  kill (): Promise<void>
  /** Asks it to stop and resolves with its exit code. */
  stop (): Promise<number | null>
}

const main = fileURLToPath(new URL('../../dist/main.js', import.meta.url))

/** A directory that is removed when the test has ended. */
export async function makeDirectory (t: Test): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'vdsm-tasks-test-'))
  t.teardown(async () => { await rm(directory, { recursive: true, force: true }) })
  return directory
}

/** Starts the built agent; without a configuration, on a free port, with a domain `local` that has a sample image. */
export async function startAgent (t: Test, directory: string, config: object = {}): Promise<BuiltAgent> {
  const file = join(directory, 'config.json')
  await writeFile(file, JSON.stringify({
    listen: { port: 0 },
    domains: [{ id: 'local', path: './images', create: true, sample: true }],
    ...config
  }))
  const agent = spawn(process.execPath, [main, '--config', file], { stdio: ['ignore', 'ignore', 'pipe'], env: { PATH: process.env['PATH'] } })
  const gone = once(agent, 'exit')
  const kill = async () => { agent.kill('SIGKILL'); await gone }
  t.teardown(kill)
  const said: string[] = []
  for await (const line of createInterface(agent.stderr)) {
    said.push(line)
    const address = /listens on (http:\S+?),?(?: |$)/.exec(line)?.[1]
    if (address === undefined || agent.pid === undefined) continue
    agent.stderr.resume()
    // on a busy machine it listens before it has made its sample
    if (!('domains' in config)) await until(async () => (await fetch(`${address}/domains/local/images/sample.raw`)).ok, 'the sample image')
    return { address, pid: agent.pid, directory, kill, stop: async () => { agent.kill('SIGTERM'); await gone; return agent.exitCode } }
  }
  throw new Error(`the agent did not start:\n${said.join('\n')}`)
}

/** A port that nobody listens on, for an agent that must come back at the same address. */
export async function freePort (): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('a TCP server has a port')
  return address.port
}
