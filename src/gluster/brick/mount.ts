import { mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { CommandError, run, runOk } from '../../system/run.ts'

// In a mount name space of its own this hides nothing from anybody, and it is gone with the last process in there.
const place = '/mnt'
const root = `${place}/brick`
const volfilePath = `${place}/volfile`
const log = `${place}/log`
const connectMs = 10_000
const pauseMs = 50

/**
 * Mounts the brick of a client volfile, read-only, and returns where. For a process in a mount name space of its own:
 * the FUSE daemon is its child and dies with it, and the mount with that.
 */
export async function mountBrick (volfile: string): Promise<string> {
  await runOk(['mount', '-t', 'tmpfs', '-o', 'size=1m,mode=0700', 'tmpfs', place])
  await writeFile(volfilePath, volfile, { mode: 0o600 })
  await mkdir(root)
  const { dev } = await stat(place)
  const ended = run(['glusterfs', '--no-daemon', '--read-only', '--log-level=WARNING', `--log-file=${log}`, `--volfile=${volfilePath}`, root])
    .then(({ exitCode, stderr }) => new Error(`glusterfs ended with status ${exitCode}: ${lastLine(stderr)}`), explain)
  const failed = ended.then(error => { throw error })
  await Promise.race([failed, connected(dev)])
  failed.catch(() => { /* the walk fails, too */ })
  return root
}

async function connected (devBefore: number): Promise<void> {
  const end = performance.now() + connectMs
  while (true) {
    try {
      if ((await stat(root)).dev !== devBefore) return
    } catch (error) {
      if (!isNotConnected(error)) throw error
      if (performance.now() > end) throw new Error(`no connection to the brick: ${await lastWords()}`, { cause: error })
    }
    await sleep(pauseMs)
  }
}

/** What the log of the FUSE daemon ends with, without time and place in the source. */
async function lastWords (): Promise<string> {
  const lines = (await readFile(log, 'utf8')).split('\n').filter(line => /^\[.*\] [EW] .*-client-/.test(line))
  return lines.at(-1)?.replace(/^\[.*?\] [EW] (\[.*?\] )*/, '') ?? 'it is not running, or cannot be reached'
}

function explain (error: unknown): Error {
  if (error instanceof CommandError && error.notFound) return new Error('glusterfs is not installed on this host (package glusterfs-client or glusterfs-fuse)', { cause: error })
  return error instanceof Error ? error : new Error(String(error))
}

function lastLine (text: string): string {
  return text.trim().split('\n').at(-1) ?? ''
}

function isNotConnected (error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOTCONN'
}
