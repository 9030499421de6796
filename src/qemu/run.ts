import type { Owner } from '../system/directory.ts'
import { run, type RunOptions, type RunResult, runOk } from '../system/run.ts'

type Argv = readonly [string, ...string[]]

const MiB = 1024 * 1024
const GiB = 1024 * MiB

export interface QemuOptions extends Omit<RunOptions, 'confinement'> {
  /** What it inherits as 3, 4, 5 ... It may open those that the command names. */
  fds: readonly number[]
  /** Which of these it writes: their numbers in it. */
  writes?: readonly number[]
  /** Whom the images belong to. */
  owner: Owner | undefined
  /** Bytes of the disk that it may have to go through. A look at the headers has none. */
  workBytes?: number
  /** Bytes of memory that it may need besides. */
  extraMemoryBytes?: number
}

/**
 * Runs qemu-img so that it reaches nothing but the files which the command names, as their owner, and cannot work or grow
 * without end: what it parses was written by somebody who may want that.
 */
export async function runQemu (argv: Argv, { writes = [], owner, workBytes, extraMemoryBytes, ...options }: QemuOptions): Promise<RunResult> {
  return await run(argv, { ...options, confinement: confinementOf(argv, { writes, owner, workBytes, extraMemoryBytes }) })
}

/** The same; any exit status other than 0 is a CommandError. */
export async function runQemuOk (argv: Argv, { writes = [], owner, workBytes, extraMemoryBytes, ...options }: QemuOptions): Promise<RunResult> {
  return await runOk(argv, { ...options, confinement: confinementOf(argv, { writes, owner, workBytes, extraMemoryBytes }) })
}

interface Needs {
  writes: readonly number[]
  owner: Owner | undefined
  workBytes: number | undefined
  extraMemoryBytes: number | undefined
}

function confinementOf (argv: Argv, { writes, owner, workBytes, extraMemoryBytes = 0 }: Needs) {
  const named = [...new Set(argv.flatMap(text => [...text.matchAll(/\/proc\/self\/fd\/(\d+)/g)].map(([, number]) => Number(number))))]
  const reads = named.filter(number => !writes.includes(number))
  return { reads, writes, owner, limits: { cpuSeconds: cpuSecondsOf(workBytes), memoryBytes: memoryOf(named.length, workBytes) + extraMemoryBytes } }
}

/** A slow processor goes through 8 MiB in a second, whatever is in them: compressed, of the smallest clusters. */
function cpuSecondsOf (workBytes: number | undefined): number {
  return workBytes === undefined ? 30 : 600 + Math.ceil(workBytes / (8 * MiB))
}

/**
 * Address space, which is what the kernel limits. Of each file qemu has tables of up to 64 MiB (a first table of 32, and a
 * cache of 32). What moves data has up to 64 threads, each with a stack and an arena of the C library.
 */
function memoryOf (files: number, workBytes: number | undefined): number {
  return (workBytes === undefined ? GiB : 8 * GiB) + files * 64 * MiB
}
