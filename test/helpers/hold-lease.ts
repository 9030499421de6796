// Takes a lease and holds it: hold-lease.ts DIRECTORY IMAGE exclusive|shared [child]. With "child" a long program inherits it,
// started so that it outlives this process, as an orphaned qemu-img in an uninterruptible call would.
import { spawn } from 'node:child_process'
import { takeLease } from '../../src/storage/lease.ts'
import { openDirectory } from '../../src/system/directory.ts'

const [path = '', image = '', mode, child] = process.argv.slice(2)
const lease = await takeLease(await openDirectory(path), image, mode === 'shared' ? 'shared' : 'exclusive')
if (lease !== undefined && child === 'child') spawn('sleep', ['300'], { stdio: ['ignore', 'ignore', 'ignore', lease.fd] })
process.stdout.write(lease === undefined ? 'refused\n' : 'taken\n')
setInterval(() => {}, 60_000)
