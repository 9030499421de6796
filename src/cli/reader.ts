import { spawn } from 'node:child_process'
import { fstatSync } from 'node:fs'

const standardOutput = 1

/**
 * Calls back when whoever reads standard output through a pipe has gone, and returns what ends the watch. A write would tell it,
 * but who follows what happens may have nothing to write for hours, and Node polls no pipe that it only writes to (libuv:
 * ENOTCONN). GNU `tail -f` does, and ends with SIGPIPE (coreutils 8.28). Where there is none, the next write tells.
 *
 * @param pid this process: the watch holds the pipe open, so it ends soon after it in any case.
 */
export function watchReader (pid: number, gone: () => void): () => void {
  if (!fstatSync(standardOutput).isFIFO()) return () => {}
  const tail = spawn('tail', ['-f', '--sleep-interval=0.2', `--pid=${pid}`, '/dev/null'], { stdio: ['ignore', standardOutput, 'ignore'] })
  tail.on('error', () => { /* there is no tail */ }).on('exit', (_status, signal) => { if (signal === 'SIGPIPE') gone() })
  tail.unref()
  return () => { tail.kill() }
}
