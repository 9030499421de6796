import { randomUUID } from 'node:crypto'
import { constants } from 'node:fs'
import { AppError } from '../../../errors.ts'
import { carryAttributes } from '../../../system/attributes.ts'
import { closeFd, look, openFile, openNameless, statFd, type Directory } from '../../../system/directory.ts'
import { hasErrno } from '../../../system/errno.ts'
import { linkFile, removeFile, replaceByMove, syncFile } from '../../../system/durable.ts'
import type { Area } from '../../area.ts'
import type { Part } from '../../copy/part.ts'
import type { Source } from '../../copy/source.ts'
import { identityOf, inodeOf, isSameContent, type Identity } from '../../identity.ts'
import type { CopyRequest } from '../../protocol.ts'
import type { CopyRecord } from '../../record.ts'
import { fileStanding } from '../../standing.ts'
import { writtenSince } from '../copy-state.ts'
import { partDisturbance } from '../part-disturbance.ts'
import type { CopyTarget, Existing, TargetPlan } from '../copy-target.ts'
import { assertRemovable } from './removable.ts'

/** A copy that nobody sees before it is complete: a part, which gets the image's name by link. */
export class DirectoryTarget implements CopyTarget {
  readonly #area: Area
  readonly #image: string

  constructor (area: Area, image: string) {
    this.#area = area
    this.#image = image
  }

  async find (): Promise<Existing | undefined> {
    const stats = await look(this.#area.root, this.#image)
    if (stats === undefined) return undefined
    return {
      identity: identityOf(stats),
      replaceable: true,
      offered: false,
      refusal: new AppError('target-exists', `There is an image ${this.#image} in domain ${this.#area.id}. Delete it first, choose another name, or say "onExisting": "replace".`)
    }
  }

  async assertReplaceable ({ isPreview }: { isPreview: boolean }): Promise<void> {
    if (await look(this.#area.root, this.#image) === undefined) return
    await assertRemovable(this.#area, this.#image, 'It was not replaced.')
    await this.#tryAttributes(isPreview)
  }

  /**
   * Tries on an empty file whether what belongs to the image can be given to another one: to find out at the end of a copy
   * would be late. The file has a name meanwhile: attributes of files without one are not for every file system. Only a
   * preview, which must not leave one, goes without, where that can be had.
   */
  async #tryAttributes (isPreview: boolean): Promise<void> {
    const { root, parts } = this.#area
    const name = `attributes-${randomUUID()}`
    const trial = isPreview
      ? await openNameless(parts, undefined)
      : await openFile(parts, name, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600)
    if (trial === undefined) return
    const fds = [trial]
    try {
      const image = await openFile(root, this.#image, constants.O_RDONLY)
      fds.push(image)
      await carryAttributes(image, trial)
    } finally {
      for (const fd of fds) await closeFd(fd)
      if (!isPreview) await removeFile(parts, name)
    }
  }

  plan (source: Source, { format = source.files[0].format, allocation }: CopyRequest['target']): TargetPlan {
    return { format, allocation, virtualSize: format === 'raw' ? source.virtualSize : Math.ceil(source.virtualSize / 512) * 512 }
  }

  async standing (record: CopyRecord): Promise<'ended' | 'open'> {
    const final = await look(this.#area.root, this.#image)
    if (final === undefined) return 'open'
    const standing = fileStanding(record, identityOf(final))
    // the image has its name already: only the record does not say so yet
    if (standing === 'same') return 'ended'
    if (standing === 'written') throw writtenSince(this.#area, record)
    if (record.replaces !== undefined && isSameContent(record.replaces, identityOf(final))) return 'open'
    throw new AppError('target-exists', `A file ${this.#image} that is not this copy${record.replaces === undefined ? '' : ', nor the image as it was when the copy began,'} is in domain ${this.#area.id}. Rename it and mend again; deleteImage would remove the unfinished copy and leave that file.`)
  }

  async fileOf ({ copyId }: CopyRecord): Promise<{ directory: Directory, name: string }> {
    return { directory: this.#area.parts, name: copyId }
  }

  async disturbance ({ copyId }: CopyRecord, part: Part): Promise<string | undefined> {
    return await partDisturbance(this.#area.parts, copyId, part)
  }

  async place (): Promise<void> { /* a part is where it is written */ }

  async retract (record: CopyRecord): Promise<void> {
    await this.discard(record)
  }

  async discard ({ copyId }: CopyRecord): Promise<void> {
    await removeFile(this.#area.parts, copyId)
  }

  /**
   * Gives the part the image's name: by link, which can never replace an image that somebody has put there meanwhile, or,
   * to replace the very image that was there when the copy began, by rename.
   */
  async giveName ({ copyId, inode, replaces }: CopyRecord, fd: number): Promise<string | undefined> {
    const { root, parts, id } = this.#area
    // under its name, there is what was written and looked at
    const part = await look(parts, copyId)
    if (part === undefined || inodeOf(part) !== inode) throw new AppError('storage-failed', `The copy of ${this.#image} in domain ${id} was exchanged for another file: somebody else writes to .vdsm-tasks/parts. Delete it and copy again.`)
    const existing = await look(root, this.#image)
    if (existing !== undefined && replaces !== undefined && isSameContent(replaces, identityOf(existing))) {
      await assertRemovable(this.#area, this.#image, 'It was not replaced; the copy is whole: mend the image when nothing needs the old one.')
      await this.#carryAttributes(replaces, fd)
      await replaceByMove(parts, copyId, root, this.#image)
      return undefined
    }
    try {
      await linkFile(parts, copyId, root, this.#image)
      return undefined
    } catch (error) {
      if (!hasErrno(error, 'EEXIST')) throw error
      return `A file ${this.#image} that this copy may not replace has appeared in domain ${id}, or was written, during the copy. Rename it and mend the image: the copy itself is whole.`
    }
  }

  /**
   * What takes the place of an image is whose that was, durably before it takes it. Both by descriptors: whoever exchanges
   * names meanwhile must neither have another file given away, nor say whose the copy is to be.
   */
  async #carryAttributes (replaces: Identity, fd: number): Promise<void> {
    const old = await openFile(this.#area.root, this.#image, constants.O_RDONLY)
    try {
      if (!isSameContent(replaces, identityOf(await statFd(old)))) throw new AppError('storage-failed', `The image ${this.#image} in domain ${this.#area.id} was exchanged while it was being replaced. Nothing was replaced. Find out who writes to the domain, and mend the image.`)
      await carryAttributes(old, fd)
      await syncFile(fd)
    } finally {
      await closeFd(old)
    }
  }

  async settle (record: CopyRecord): Promise<Identity | undefined> {
    const stats = await look(this.#area.root, this.#image)
    if (stats === undefined || fileStanding(record, identityOf(stats)) === 'other') return undefined
    await this.discard(record)
    return identityOf(stats)
  }
}
