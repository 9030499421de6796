import process from 'node:process'
import { readdir, readFile, readlink, stat } from 'node:fs/promises'
import { basename } from 'node:path'
import type { BigIntStats } from 'node:fs'
import { statFd } from './directory.ts'
import { hasErrno } from './errno.ts'

const unseen = [
  'ENOENT', 'ESRCH', 'ENODEV', 'ENXIO', 'EACCES', 'EPERM', 'EINVAL', 'ENOTDIR', 'ELOOP', 'EIO', 'ESTALE', 'ENOTCONN', 'EHOSTDOWN'
] as const

/** What a process is called that only looks at images, for a dry run: by `ps`, too. */
const previewTitle = 'dry run'
/** Between a program and who has started it there may be others that confine it. */
const maxAncestors = 4

/** From now on, this process and the programs that it runs are no openers: who needs an image in earnest need not wait for them. */
export function markAsPreview (): void {
  process.title = previewTitle
}

type File = Pick<BigIntStats, 'dev' | 'ino'>

/**
 * The programs of this host, other than this process and than dry runs, that have a file open, and the loop devices that it is attached to, in
 * words. As far as /proc shows them to us: to root all of them; to others, their own.
 *
 * @param name the last part of the file's path. Only descriptors of that name are looked at more closely: a look at one that
 *   is on another storage could hang.
 */
export async function openersOf (fd: number, name: string): Promise<string[]> {
  const file = await statFd(fd)
  return [...await processesWith(file, name), ...await loopDevicesWith(file, name)]
}

async function processesWith (file: File, name: string): Promise<string[]> {
  const found: string[] = []
  for (const pid of await namesOf('/proc')) {
    if (!/^[0-9]+$/.test(pid) || Number(pid) === process.pid) continue
    for (const number of await namesOf(`/proc/${pid}/fd`)) {
      const path = await ifThere(readlink(`/proc/${pid}/fd/${number}`))
      if (path === undefined || !leadsTo(path, name) || !await isFile(`/proc/${pid}/fd/${number}`, file)) continue
      if (!await isPreview(pid)) found.push(`process ${pid} (${await nameOf(pid) ?? 'unknown'})`)
      break
    }
  }
  return found
}

async function isPreview (pid: string, ancestors = maxAncestors): Promise<boolean> {
  if (await nameOf(pid) === previewTitle) return true
  const parent = /^PPid:\s*(\d+)$/m.exec(await ifThere(readFile(`/proc/${pid}/status`, 'utf8')) ?? '')?.[1]
  return parent !== undefined && ancestors > 0 && await isPreview(parent, ancestors - 1)
}

async function nameOf (pid: string): Promise<string | undefined> {
  return (await ifThere(readFile(`/proc/${pid}/comm`, 'utf8')))?.trimEnd()
}

async function loopDevicesWith (file: File, name: string): Promise<string[]> {
  const found: string[] = []
  for (const device of await namesOf('/sys/block')) {
    if (!device.startsWith('loop')) continue
    const path = (await ifThere(readFile(`/sys/block/${device}/loop/backing_file`, 'utf8')))?.trimEnd()
    if (path !== undefined && leadsTo(path, name) && await isFile(path, file)) found.push(`the loop device /dev/${device}`)
  }
  return found
}

function leadsTo (path: string, name: string): boolean {
  return basename(path) === name || basename(path) === `${name} (deleted)`
}

async function isFile (path: string, { dev, ino }: File): Promise<boolean> {
  const stats = await ifThere(stat(path, { bigint: true }))
  return stats?.dev === dev && stats.ino === ino
}

async function namesOf (directory: string): Promise<string[]> {
  return await ifThere(readdir(directory)) ?? []
}

/**
 * What ends or closes something while we look is gone: a loop device that is being detached answers ENODEV. What we must not
 * look at, or lies on a storage that fails, is not seen.
 */
async function ifThere<T> (look: Promise<T>): Promise<T | undefined> {
  try {
    return await look
  } catch (error) {
    if (hasErrno(error, ...unseen)) return undefined
    throw error
  }
}
