import { Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { closeFd, giveAccess, look, openFile, openOwnFile, readBytes, statFd, type Directory } from '../../system/directory.ts'
import { removeFile, syncData, syncDirectory, writeOver } from '../../system/durable.ts'
import { hasErrno } from '../../system/errno.ts'
import { inodeOf } from '../identity.ts'
import { lockFile } from '../lease.ts'
import type { HostMark } from './peers.ts'

// `.vdsm-tasks/hosts/<random>`: one file for each agent that has the domain attached. Its owner keeps it open and
// locked, and writes its heartbeat into it. A name is never used again, so whoever removes a file removes no other one.

/** A name of a host file. */
export const hostFilePattern = /^[0-9a-f]{32}$/

/** All of a host file. It is written in one piece, so that a reader finds one beat or the next. */
const markBytes = 2048

/** Everybody who reaches the directory may look whether its owner lives. */
const mode = 0o644

const Count = Type.Integer({ minimum: 0 })
const StoredMark = Type.Object({
  version: Type.Literal(1),
  beat: Count,
  held: Count,
  hostId: Type.String({ maxLength: 255 }),
  instance: Type.String({ maxLength: 64 }),
  domain: Type.String({ maxLength: 63 }),
  process: Type.Object({
    boot: Type.String(),
    namespace: Type.String(),
    pid: Type.Integer({ minimum: 1, maximum: 2 ** 22 }),
    started: Type.String()
  }),
  // the same as `beat`, behind everything else: of a write that was seen half, the two differ
  end: Count
})

/** How a mark is written. */
export function formatMark (mark: HostMark): string {
  const text = JSON.stringify({ version: 1, beat: mark.beat, held: mark.held, hostId: mark.hostId, instance: mark.instance, domain: mark.domain, process: mark.process, end: mark.beat })
  return text + ' '.repeat(Math.max(0, markBytes - 1 - Buffer.byteLength(text))) + '\n'
}

/** The mark in the content of a host file; undefined where nothing in it can be used. */
export function parseMark (text: string): HostMark | undefined {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return undefined
  }
  if (!Value.Check(StoredMark, value) || value.beat !== value.end) return undefined
  const { hostId, instance, domain, process, beat, held } = value
  return { hostId, instance, domain, process, beat, held }
}

/** What is in a host file now. Throws ENOENT, NotAFileError. */
export async function readHostFile (hosts: Directory, name: string): Promise<HostMark | undefined> {
  const fd = await openOwnFile(hosts, name, constants.O_RDONLY)
  try {
    return parseMark((await readBytes(fd, markBytes)).toString())
  } finally {
    await closeFd(fd)
  }
}

/** The host file of this process. */
export class OwnHostFile {
  readonly name: string
  readonly #fd: number
  readonly #inode: string
  /** The file system is this host's alone: no lock can get lost there, and nobody reads past its page cache. */
  readonly #local: boolean
  #mark: HostMark

  private constructor (name: string, { fd, inode, local, mark }: { fd: number, inode: string, local: boolean, mark: HostMark }) {
    this.name = name
    this.#fd = fd
    this.#inode = inode
    this.#local = local
    this.#mark = mark
  }

  /** Makes one under a new name. It is locked before there is a word in it. */
  static async make (hosts: Directory, { mark, local }: { mark: Omit<HostMark, 'beat' | 'held'>, local: boolean }): Promise<OwnHostFile> {
    const name = randomBytes(16).toString('hex')
    const fd = await openFile(hosts, name, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, mode)
    try {
      // whatever the umask is: agents may be different users
      await giveAccess(fd, { mode })
      if (!await lockFile(fd)) throw new Error(`the new file ${name} is locked`)
      const own = new OwnHostFile(name, { fd, inode: inodeOf(await statFd(fd)), local, mark: { ...mark, beat: 0, held: 0 } })
      await own.#write({ held: 1 })
      if (!local) await syncDirectory(hosts)
      return own
    } catch (error) {
      await closeFd(fd)
      await removeFile(hosts, name).catch(() => { /* the first error is the one to report */ })
      throw error
    }
  }

  /**
   * Writes the next heartbeat. With `confirm`, makes sure of the lock before, and writes nothing if somebody else has it:
   * one who was cut off may have lost it without an error.
   *
   * @returns whether the heartbeat was written.
   */
  async beat (confirm: boolean): Promise<boolean> {
    if (confirm && !this.#local && !await lockFile(this.#fd)) return false
    await this.#write({ held: this.#mark.held + (confirm || this.#local ? 1 : 0) })
    return true
  }

  /** Whether its name is still its own: another host removes the file of one that it takes for dead. */
  async isThere (hosts: Directory): Promise<boolean> {
    const found = await look(hosts, this.name)
    return found !== undefined && inodeOf(found) === this.#inode
  }

  /** Lets go of it, and removes it if it is still in this directory. */
  async abandon (hosts?: Directory): Promise<void> {
    try {
      if (hosts !== undefined && await this.isThere(hosts)) await removeFile(hosts, this.name)
    } finally {
      await closeFd(this.#fd).catch((error: unknown) => {
        // what the storage says of a file that is gone
        if (!hasErrno(error, 'EIO', 'ESTALE', 'EBADF')) throw error
      })
    }
  }

  async #write ({ held }: { held: number }): Promise<void> {
    this.#mark = { ...this.#mark, beat: this.#mark.beat + 1, held }
    await writeOver(this.#fd, formatMark(this.#mark))
    if (!this.#local) await syncData(this.#fd)
  }
}
