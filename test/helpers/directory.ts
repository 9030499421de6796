import { mkdtemp, readdir, readFile, readlink, rm, lstat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'

/** A directory that goes with the test. Its path is short, so that sockets fit in it. */
export async function temporaryDirectory (t: Test): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'vdsm-tasks-'))
  t.teardown(async () => { await rm(path, { recursive: true, force: true }) })
  return path
}

/**
 * Everything below a directory, with type, size, times and the content of small files: what a refusal must leave as it
 * was. Without the host files of domains, which agents write all the time.
 */
export async function listing (path: string): Promise<string[]> {
  const names = (await readdir(path, { recursive: true })).filter(name => !/\.vdsm-tasks\/hosts(\/|$)/.test(name)).sort()
  return await Promise.all(names.map(async name => {
    const stats = await lstat(join(path, name), { bigint: true })
    const kind = stats.isDirectory() ? 'directory' : stats.isSymbolicLink() ? `link to ${await readlink(join(path, name))}` : stats.isFile() ? 'file' : 'special'
    const content = stats.isFile() && stats.size < 4096n ? await readFile(join(path, name), 'base64') : ''
    // a directory's own times change with a file that came and went: that, too, is a change
    return `${name} ${kind} ${stats.size} ${stats.mtimeNs} ${content}`
  }))
}
