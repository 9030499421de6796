import { build, type Plugin } from 'esbuild'
import { closeSync, readdirSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import type { DomainPlace } from '../../src/storage/area.ts'
import { CopyWorker } from '../../src/storage/copy/worker.ts'
import type { CopyJob } from '../../src/storage/protocol.ts'
import { copyAgent } from './copy-agent.ts'
import { temporaryDirectory } from './directory.ts'
import { needs } from './needs.ts'
import { change, type StorageJob } from './storage-change.ts'

needs('qemu-img')

/** The job of copying or mending, as the agent would give it to a worker. */
export function copyJob (places: readonly DomainPlace[], request: CopyJob['request'], { bandwidth = null, ...settings }: Partial<CopyJob['settings']> & { bandwidth?: number | null } = {}): StorageJob & { what: 'copy' } {
  return {
    what: 'copy',
    job: { request, bandwidth, places, host: { id: 'node1' }, taskId: 'step', settings: { parallelWindows: 2, windowSeconds: 4, nice: 0, ioPriority: 'normal', directIo: true, clone: true, reserveBytes: 0, ...settings } }
  }
}

/** A copy of the disk `source.raw` to another raw image of the domain `local`, as the agent asks for it by default. */
export const rawCopy = {
  what: 'copy',
  source: { domain: 'local', image: 'source.raw', format: 'raw' },
  target: { domain: 'local', image: 'target.raw', format: 'raw', allocation: 'sparse' },
  verify: false,
  chain: 'flat',
  onExisting: 'refuse',
  ignoreSpace: false
} as const

/** Storage work without an agent. */
export interface StorageJobs {
  /** The command that does it in a process of its own, to be killed at a call. */
  argvOf: (job: StorageJob) => string[]
  /** Does it, in this process. */
  work: (job: StorageJob) => Promise<void>
}

/**
 * Prepares such processes: one file with all that they import, as the build makes them. They are started by the hundred,
 * and to read the single files takes longer than the work.
 */
export async function storageJobs (t: Test): Promise<StorageJobs> {
  const outfile = join(await temporaryDirectory(t), 'storage-job.mjs')
  const banner = { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" }
  const define = { PROGRAM_FOLDER: JSON.stringify(new URL('../../src/', import.meta.url).href) }
  const entryPoints = [fileURLToPath(new URL('storage-job.ts', import.meta.url))]
  // native, and found where it is: the bundle is in a folder without packages
  const native: Plugin = {
    name: 'native',
    setup: ({ onResolve }) => { onResolve({ filter: /^koffi$/ }, () => ({ path: import.meta.resolve('koffi'), external: true })) }
  }
  await build({ entryPoints, outfile, banner, define, bundle: true, platform: 'node', format: 'esm', target: 'node20', logLevel: 'warning', plugins: [native] })
  const argvOf = (job: StorageJob): string[] => [process.execPath, outfile, JSON.stringify(job)]
  return { argvOf, work }
}

/** Does it here. The leases of a copy end with its process: this one lives on, so it lets go of all that the copy has opened. */
async function work (job: StorageJob): Promise<void> {
  if (job.what !== 'copy' && job.what !== 'preview') return await change(job)
  const before = openFiles()
  try {
    await new CopyWorker(copyAgent())[job.what](job.job)
  } finally {
    for (const [fd, path] of openFiles()) if (before.get(fd) !== path && job.job.places.some(place => path.startsWith(`${place.path}/`))) closeSync(fd)
  }
}

/** What this process has open. */
function openFiles (): Map<number, string> {
  const found = new Map<number, string>()
  for (const name of readdirSync('/proc/self/fd')) {
    try {
      found.set(Number(name), readlinkSync(`/proc/self/fd/${name}`))
    } catch {
      // the one by which they are read
    }
  }
  return found
}
