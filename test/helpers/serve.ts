import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { descendants, untilGone } from './processes.ts'
import { needs } from './needs.ts'

needs('qemu-img')

const main = fileURLToPath(new URL('../../dist/main.js', import.meta.url))

/** The built agent with any configuration, and all that it has said. */
export interface Served {
  addresses: string[]
  pid: number
  /** The path of its configuration. */
  config: string
  said: () => string
}

/** Starts the built agent and waits until it listens. It goes with the test. Rejects with what it said when it ends instead. */
export async function startServe (t: Test, directory: string, config: object): Promise<Served> {
  const file = join(directory, 'config.json')
  await writeFile(file, JSON.stringify(config))
  // through env: tap puts its own things into the environment of whatever its tests start
  const child = spawn('env', ['-i', `PATH=${process.env['PATH']}`, 'setpriv', '--pdeathsig', 'KILL', process.execPath, main, '--config', file], { stdio: ['ignore', 'pipe', 'pipe'] })
  const { pid } = child
  if (pid === undefined) throw new Error('env is not installed')
  const gone = once(child, 'exit')
  let said = ''
  t.teardown(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    const below = descendants(pid)
    child.kill('SIGKILL')
    await gone
    await untilGone(...below)
  })
  const addresses = await new Promise<string[]>((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        said += text
        const list = /^vdsm-tasks \S+ listens on (.*)$/m.exec(said)?.[1]
        if (list !== undefined) resolve(list.split(', '))
      })
    }
    child.once('exit', status => { reject(new Error(`the agent ended with ${status}:\n${said}`)) })
  })
  return { addresses, pid, config: file, said: () => said }
}
