import { fork, type ChildProcess } from 'node:child_process'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { registeredMark, underSanlock } from './registration.ts'

/**
 * Starts one of our own modules as a child process with a message channel, bound to this process's life:
 * it gets SIGKILL when this one dies, however it dies.
 *
 * @param module URL of the module without its extension: the child is what this process is, sources or build.
 * @param under a command that runs it, with its options: `nice`, say.
 * @param registered sanlock is to know it.
 */
export function forkBound (module: URL, under: readonly string[] = [], registered = false): ChildProcess {
  const file = fileURLToPath(module) + extname(import.meta.url)
  return fork(file, [], {
    execPath: 'setpriv',
    execArgv: ['--no-new-privs', '--pdeathsig', 'KILL', '--', ...under, ...registered ? underSanlock : [], process.execPath, ...process.execArgv],
    // sanlock says a word there
    stdio: ['ignore', registered ? 'ignore' : 'inherit', 'inherit', 'ipc'],
    env: { PATH: process.env['PATH'], LC_ALL: 'C', NODE_OPTIONS: process.env['NODE_OPTIONS'], ...(registered && { [registeredMark]: '1' }) }
  })
}
