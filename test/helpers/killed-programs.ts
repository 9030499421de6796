import { chmod, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { sh } from './images.ts'

/**
 * Makes a qemu-img in a directory which is the real one, but gives itself a signal where its first argument is this
 * command: what a host out of memory does to it. Returns the PATH in which it is found.
 */
export async function killedQemuImg (directory: string, command: string, signal = 'KILL'): Promise<string> {
  const real = (await sh('sh', '-c', 'command -v qemu-img')).trim()
  const path = join(directory, 'qemu-img')
  await writeFile(path, `#!/bin/sh\nif [ "$1" = ${command} ]; then kill -${signal} $$; fi\nexec ${real} "$@"\n`)
  await chmod(path, 0o755)
  return `${directory}:${process.env['PATH'] ?? ''}`
}
