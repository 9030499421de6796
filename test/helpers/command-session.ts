import { PassThrough } from 'node:stream'
import { run } from '../../src/cli/program.ts'
import { Session } from '../../src/cli/session.ts'

/** What a command line that ran in this process has written and how it ended. */
export interface Ran {
  status: number
  stdout: string
  stderr: string
}

/** Runs a command line in this process, on a terminal with colours or into pipes. */
export async function runHere (args: readonly string[], { isTTY = false, env = {} }: { isTTY?: boolean, env?: Record<string, string> } = {}): Promise<Ran> {
  const written = { stdout: '', stderr: '' }
  const sink = (name: keyof typeof written) => ({ isTTY, hasColors: () => isTTY, write: (text: string) => { written[name] += text } })
  const session = new Session({
    stdin: new PassThrough(),
    stdout: sink('stdout'),
    stderr: sink('stderr'),
    env,
    directory: '/',
    exit: status => { throw new Error(`it wants to exit with ${status}`) }
  })
  return { status: await run(args, session), ...written }
}
