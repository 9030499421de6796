import { constants } from 'node:fs'
import { AppError } from '../../../errors.ts'
import { headerBytes, parseQcow2Header } from '../../../qemu/header.ts'
import { closeFd, look, openFile, readBytes, statFd, truncateFd, type Directory } from '../../../system/directory.ts'
import { removeFile, syncFile } from '../../../system/durable.ts'
import { giveImageAccess, type Area } from '../../area.ts'
import type { Part } from '../../copy/part.ts'
import type { Source } from '../../copy/source.ts'
import { identityOf, inodeOf, type Identity } from '../../identity.ts'
import { assertUnused } from '../../in-use.ts'
import type { CopyRequest } from '../../protocol.ts'
import { writeRecord, type CopyRecord, type Layer } from '../../record.ts'
import { fileStanding } from '../../standing.ts'
import { wholeBlocks } from '../../whole-blocks.ts'
import { writtenSince } from '../copy-state.ts'
import type { CopyTarget, Existing, TargetPlan } from '../copy-target.ts'
import { partDisturbance } from '../part-disturbance.ts'
import type { ChainVolume } from '../source-chain.ts'
import { parentIn } from './chain.ts'
import { isEmptyVolume } from './empty.ts'
import { differenceOf } from './kept-chain.ts'
import { publish, withdraw } from './publish.ts'
import { formatOf, formatVolumeMetadata, nextGeneration, type VolumeMetadata } from './volume-metadata.ts'
import { standingOf } from './volume-state.ts'
import { makeImage, openImage, readVolume, writeMetadata, type VolumeFiles } from './volumes.ts'

const wholeRange = (bytes: number): Array<[number, number]> => bytes === 0 ? [] : [[0, bytes]]

/**
 * A copy that is written in place, where the engine sees it: ILLEGAL from before its first write to its end, then LEGAL
 * and one generation further in one write.
 */
export class OvirtTarget implements CopyTarget {
  readonly #area: Area
  readonly #image: string
  readonly #volume: string
  readonly #layer: Layer | undefined
  #directory: Directory | undefined
  /** The volume that the copy is to be written into. */
  #offered: VolumeMetadata & { inode: string } | undefined

  constructor (area: Area, image: string, volume: string | undefined, layer?: Layer) {
    if (volume === undefined) throw new AppError('bad-request', `Domain ${area.id} has the layout ovirt: say which "volume" of image ${image} is meant.`)
    this.#area = area
    this.#image = image
    this.#volume = volume
    this.#layer = layer
  }

  async find ({ generation, format }: CopyRequest['target']): Promise<Existing | undefined> {
    const files = await this.#files()
    const { data, metadata, problem } = files
    const name = `volume ${this.#volume} of image ${this.#image} in domain ${this.#area.id}`
    if (problem !== undefined) throw problem
    if (data === undefined && metadata === undefined && !files.lease) {
      if (generation === undefined) return undefined
      throw new AppError('image-not-found', `There is no ${name}. Leave out "generation", and the copy will make it.`)
    }
    const refuse = (what: string): Existing => ({ replaceable: false, offered: false, refusal: new AppError('target-exists', `There is a ${name}, ${what}. Delete it first, or choose another one.`) })
    if (data === undefined || metadata === undefined) return refuse('or what is left of one; the fixes of the domain tell more')
    if (metadata.legality !== 'LEGAL') return refuse(`and it is ${metadata.legality}; the fixes of the domain tell more`)
    const differs = this.#layer === undefined || (generation !== undefined && metadata.generation !== generation) ? undefined : differenceOf(metadata, this.#layer)
    if (differs !== undefined) return refuse(`but its ${differs}`)
    const identity = identityOf(data)
    if (generation === undefined) return { ...refuse('and the request does not say its "generation", with which an empty one is written into'), identity }
    if (metadata.generation !== generation) {
      return { ...refuse(''), identity, refusal: new AppError('generation-mismatch', `The generation of ${name} is ${metadata.generation}, not ${generation}: something has been done with it since. Nothing was changed.`, { members: { generation: metadata.generation } }) }
    }
    if (format !== undefined && format !== formatOf(metadata)) return { ...refuse(`but its format is ${formatOf(metadata)}, not ${format}`), identity }
    if (this.#layer === undefined && metadata.parent !== undefined) return { ...refuse('but it has a parent'), identity }
    if (!await this.#isEmpty(metadata)) return { ...refuse('and it is not empty'), identity }
    this.#offered = { ...metadata, inode: inodeOf(data) }
    return { ...refuse(''), identity, offered: true }
  }

  plan (source: Source, { format, allocation }: CopyRequest['target']): TargetPlan {
    const { files: [top], virtualSize: sourceSize, description, diskType } = source
    if (source.volume !== undefined) return this.#planVolume(source, source.volume)
    const offered = this.#offered
    const virtualSize = wholeBlocks(sourceSize)
    if (offered !== undefined) {
      if (offered.capacity < virtualSize) throw new AppError('target-exists', `Volume ${this.#volume} of image ${this.#image} has a capacity of ${offered.capacity} bytes, the source needs ${virtualSize}.`)
      const { capacity, generation, inode } = offered
      return { format: formatOf(offered), allocation: offered.type === 'PREALLOCATED' ? 'preallocated' : 'sparse', virtualSize: capacity, generation, given: true, inode }
    }
    const plan: TargetPlan = {
      format: format ?? top.format,
      allocation,
      virtualSize,
      generation: 0,
      ...(description !== undefined && { description }),
      ...(diskType !== undefined && { diskType })
    }
    if (plan.format === 'qcow2' && allocation === 'preallocated') throw new AppError('not-supported', 'vdsm knows no preallocated qcow2 volumes on file domains. Choose raw, or leave out "allocation".')
    formatVolumeMetadata(this.#metadataOf(plan, 0))
    return plan
  }

  /** What the copy of a file as it is will be: of qcow2, as long as that, and a raw disk in whole blocks, as vdsm has them. */
  #planVolume ({ virtualSize: fileBytes, description, diskType }: Source, { allocation, layer: found }: ChainVolume): TargetPlan {
    const offered = this.#offered
    const isRaw = found.format === 'raw'
    // what it is in the copied chain was decided with that
    const layer: Layer = { ...found, volumeType: this.#layer?.volumeType ?? found.volumeType, capacity: isRaw ? wholeBlocks(fileBytes) : found.capacity }
    const virtualSize = isRaw ? layer.capacity : fileBytes
    if (offered !== undefined) {
      const { capacity, generation, inode, type } = offered
      if (isRaw ? capacity < layer.capacity : capacity !== layer.capacity) throw new AppError('target-exists', `Volume ${this.#volume} of image ${this.#image} has a capacity of ${capacity} bytes, the source one of ${layer.capacity}.`)
      const shape = isRaw ? { layer: { ...layer, capacity }, virtualSize: capacity } : { layer, virtualSize, begun: wholeRange(virtualSize) }
      return { format: 'raw', allocation: isRaw && type === 'PREALLOCATED' ? 'preallocated' : 'sparse', generation, given: true, inode, ...shape }
    }
    const plan: TargetPlan = { format: 'raw', allocation, virtualSize, generation: 0, layer, ...(description !== undefined && { description }), ...(diskType !== undefined && { diskType }) }
    formatVolumeMetadata(this.#metadataOf(plan, 0))
    return plan
  }

  async standing (record: CopyRecord): Promise<'ended' | 'open'> {
    const files = await this.#files()
    if (files.problem !== undefined) throw files.problem
    const standing = standingOf(record, files)
    if (standing === 'used') throw writtenSince(this.#area, record)
    if (standing !== 'foreign') return standing
    const { legality, generation } = files.metadata ?? {}
    throw new AppError('target-exists', `Volume ${this.#volume} of image ${this.#image} in domain ${this.#area.id} is no longer as its copy left it${legality === undefined ? '' : ` (${legality}, generation ${generation})`}: somebody has finished, replaced or rewritten it. deleteImage would remove what is left of the copy and leave the volume.`)
  }

  async fileOf (): Promise<{ directory: Directory, name: string }> {
    return { directory: await this.#opened(), name: this.#volume }
  }

  async disturbance (record: CopyRecord, part: Part): Promise<string | undefined> {
    const directory = await this.#open()
    if (directory === undefined) return `the directory of image ${this.#image} is gone`
    const change = await partDisturbance(directory, this.#volume, part)
    if (change !== undefined) return change
    const isOpen = standingOf(record, await readVolume(this.#area, this.#image, directory, this.#volume)) === 'open'
    return isOpen ? undefined : `the metadata of volume ${this.#volume} were changed`
  }

  async place (record: CopyRecord, part?: Part): Promise<void> {
    if (part === undefined) return await this.#takeGiven(record)
    await giveImageAccess(this.#area, part.fd)
    await syncFile(part.fd)
    // after a crash, this is what tells our volume from one that somebody else has made
    const named = { ...record, volume: this.#volume, inode: part.inode }
    await writeRecord(this.#area.copies, named)
    const createdAt = Math.floor(Date.parse(record.createdAt) / 1000)
    await publish(this.#area, await this.#opened(), named, this.#metadataOf(record, createdAt))
  }

  async retract (record: CopyRecord): Promise<void> {
    if (record.given !== true) {
      await withdraw(this.#area, this.#image, await this.#open(), { ...record, volume: this.#volume })
      return
    }
    const { metadata } = await this.#files()
    // nothing was written: it is as empty as it was
    if (metadata?.legality === 'ILLEGAL' && metadata.generation === record.generation) await this.#write({ ...metadata, legality: 'LEGAL' })
  }

  async discard ({ copyId, inode }: CopyRecord): Promise<void> {
    const { data } = await this.#files()
    if (data !== undefined && inodeOf(data) === inode) await removeFile(await this.#opened(), this.#volume)
    await removeFile(this.#area.parts, copyId)
  }

  async giveName (record: CopyRecord): Promise<string | undefined> {
    const files = await this.#files()
    const { metadata } = files
    if (metadata === undefined || files.data === undefined || standingOf(record, files) !== 'open') {
      return `Volume ${this.#volume} of image ${this.#image} in domain ${this.#area.id} was changed by somebody else during the copy${files.problem === undefined ? '' : `: ${files.problem.message}`}. The copy itself is whole, but nobody may say now that the volume is.`
    }
    // vdsm and the engine go by the two together
    await this.#write({ ...metadata, legality: 'LEGAL', generation: nextGeneration(metadata.generation) })
    return undefined
  }

  async settle (record: CopyRecord): Promise<Identity | undefined> {
    const { data } = await this.#files()
    if (data === undefined || fileStanding(record, identityOf(data)) === 'other') return undefined
    await removeFile(this.#area.parts, record.copyId)
    return identityOf(data)
  }

  /** Makes a volume that was there before the copy ILLEGAL, if it still is what the record says of it. */
  async #takeGiven ({ generation, inode, layer, virtualSize }: CopyRecord): Promise<void> {
    const { data, metadata, problem } = await this.#files()
    if (problem !== undefined) throw problem
    const isSame = metadata !== undefined && data !== undefined && inodeOf(data) === inode && metadata.generation === generation
    if (!isSame || (metadata.legality === 'LEGAL' && !await this.#isEmpty(metadata))) {
      throw new AppError('target-exists', `Volume ${this.#volume} of image ${this.#image} in domain ${this.#area.id} is no longer the empty one that the copy began with.`)
    }
    if (metadata.legality === 'LEGAL') await this.#write({ ...metadata, legality: 'ILLEGAL' })
    if (layer?.format === 'qcow2') await this.#lengthen(inode, virtualSize)
  }

  /** An empty qcow2 volume with zeros behind its end is still one: nothing is lost if the copy is taken back. */
  async #lengthen (inode: string | undefined, bytes: number): Promise<void> {
    const fd = await openFile(await this.#opened(), this.#volume, constants.O_RDWR)
    try {
      const length = wholeBlocks(bytes)
      const stats = await statFd(fd)
      if (inodeOf(stats) !== inode || stats.nlink > 1n) throw new AppError('target-exists', `Volume ${this.#volume} of image ${this.#image} in domain ${this.#area.id} was exchanged, or has another name, too.`)
      if (stats.size < length) await truncateFd(fd, length)
      await syncFile(fd)
    } finally {
      await closeFd(fd)
    }
  }

  async assertWhole ({ layer, virtualSize }: CopyRecord, fd: number): Promise<void> {
    if (layer?.format !== 'qcow2') return
    const { backing, virtualSize: capacity } = parseQcow2Header(await readBytes(fd, headerBytes), `${this.#image}/${this.#volume}`, virtualSize)
    if (parentIn(backing) !== layer.parent || capacity !== layer.capacity) throw new AppError('image-invalid', `Volume ${this.#volume} of image ${this.#image} in domain ${this.#area.id} is not what was to be copied: its backing file is ${JSON.stringify(backing ?? 'none')}, its capacity ${capacity}.`)
  }

  async #isEmpty ({ capacity, format, parent }: VolumeMetadata): Promise<boolean> {
    const directory = await this.#opened()
    await assertUnused(directory, this.#volume, `${this.#image}/${this.#volume}`, 'It was not written.')
    const fd = await openFile(directory, this.#volume, constants.O_RDONLY)
    try {
      return await isEmptyVolume(fd, { format: formatOf({ format }), capacity, parent, owner: this.#area.owner })
    } finally {
      await closeFd(fd)
    }
  }

  #metadataOf ({ layer, format, virtualSize, allocation, generation = 0, description = '', diskType = 'DATA' }: TargetPlan, createdAt: number): VolumeMetadata {
    return {
      capacity: layer?.capacity ?? virtualSize,
      createdAt,
      description,
      diskType,
      domain: this.#area.id,
      format: (layer?.format ?? format) === 'raw' ? 'RAW' : 'COW',
      generation,
      image: this.#image,
      legality: 'ILLEGAL',
      ...(layer?.parent !== undefined && { parent: layer.parent }),
      sequence: layer?.sequence ?? 0,
      type: allocation === 'preallocated' ? 'PREALLOCATED' : 'SPARSE',
      volumeType: layer?.volumeType ?? 'LEAF'
    }
  }

  async #write (metadata: VolumeMetadata): Promise<void> {
    await writeMetadata(this.#area, await this.#opened(), this.#volume, metadata)
  }

  async #files (): Promise<VolumeFiles> {
    const directory = await this.#open()
    const nothing = { volume: this.#volume, data: undefined, metadata: undefined, problem: undefined, lease: false, abandoned: false }
    return directory === undefined ? nothing : await readVolume(this.#area, this.#image, directory, this.#volume)
  }

  /** The image's directory, which stays open as long as the process. */
  async #open (): Promise<Directory | undefined> {
    // one that was removed is still open, but no place to put anything into
    if (this.#directory !== undefined && await look(this.#area.images, this.#image) !== undefined) return this.#directory
    this.#directory = await openImage(this.#area, this.#image)
    return this.#directory
  }

  async #opened (): Promise<Directory> {
    this.#directory = await this.#open() ?? await makeImage(this.#area, this.#image)
    return this.#directory
  }
}
