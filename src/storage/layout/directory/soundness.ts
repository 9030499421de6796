import { constants } from 'node:fs'
import type { Format } from '../../../api/format.ts'
import { isFormat } from '../../../qemu/commands.ts'
import { invalidImage } from '../../../qemu/header.ts'
import { pathsIn } from '../../../qemu/references.ts'
import { closeFd, look, openFile } from '../../../system/directory.ts'
import { hasErrno } from '../../../system/errno.ts'
import type { Area } from '../../area.ts'
import { fileBeside, formatOfName } from '../../names.ts'
import { outlastOthers } from '../../patience.ts'
import type { Backing } from '../source-chain.ts'
import { lookAtFile, newerBases, problemIn, shown, type LookedAt, type Soundness } from '../soundness.ts'
import { nameInDomain, pathsOf } from './paths.ts'

/** qemu opens no longer chain, and neither do we. */
const maxChain = 200

interface Base {
  name: string
  /** Unless it is known, what lies below is not looked at. */
  format: Format | undefined
}

/**
 * Looks whether an image can be used, with all that it is based on: each file must be there, whole, and not marked as
 * corrupt. What other hosts are just writing may be seen in part: on a shared file system, a problem is looked at
 * twice.
 */
export async function soundnessOf (area: Area, image: string, format: Format): Promise<Soundness> {
  const first = await lookAtChain(area, image, format)
  if (first.problem === undefined || area.local) return first
  await outlastOthers(area, { existed: true })
  return await lookAtChain(area, image, format)
}

async function lookAtChain (area: Area, image: string, format: Format): Promise<Soundness> {
  const chain: Array<{ name: string, modified: bigint }> = []
  const outside: string[] = []
  const own: string[] = []
  let virtualSize: number | undefined
  let overlay = image
  try {
    for (let next: Base | undefined = { name: image, format }; next !== undefined;) {
      const { name, format }: Base = next
      const file = await lookAt(area, name, { format, overlay })
      virtualSize ??= file.virtualSize
      chain.push({ name, modified: file.modified })
      own.push(...file.warnings)
      overlay = name
      next = file.backing === undefined ? undefined : await baseOf(area, name, file.backing, outside)
      assertNewLink(image, chain, next)
    }
    return { warnings: [...own, ...newerBases(chain), ...outside], ...(virtualSize !== undefined && { virtualSize }) }
  } catch (error) {
    const problem = problemIn(error)
    const isOwn = problem.startsWith(`Image ${image} `)
    return {
      problem: isOwn ? problem : `Image ${shown(image)} is based on one that cannot be used. ${problem}`,
      warnings: newerBases(chain),
      ...(virtualSize !== undefined && { virtualSize })
    }
  }
}

function assertNewLink (image: string, chain: ReadonlyArray<{ name: string }>, next: Base | undefined): void {
  if (next === undefined) return
  const isLoop = chain.some(({ name }) => name === next.name)
  if (isLoop) throw invalidImage(image, `its backing files form a loop at ${next.name}`)
  if (chain.length === maxChain) throw invalidImage(image, `it has more than ${maxChain} backing files`)
}

async function lookAt (
  area: Area, name: string, { format, overlay }: { format: Format | undefined, overlay: string }
): Promise<LookedAt> {
  const isTop = overlay === name
  const isOther = (await look(area.root, name))?.isFile() === false
  if (isOther) throw invalidImage(overlay, `its backing file ${name} is not a regular file`)
  let fd
  try {
    fd = await openFile(area.root, name, constants.O_RDONLY)
  } catch (error) {
    if (isTop || !hasErrno(error, 'ENOENT')) throw error
    throw invalidImage(overlay, `its backing file ${name} is missing`)
  }
  try {
    return await lookAtFile(fd, name, format ?? 'raw')
  } finally {
    await closeFd(fd)
  }
}

/** The file that a header names, if it lies beside the image; nothing else is looked at: other storage could hang. */
async function baseOf (
  area: Area, overlay: string, { name, format }: Backing, outside: string[]
): Promise<Base | undefined> {
  const beside = fileBeside(name, area.path) ?? await inDomain(area, name)
  const isLink = beside !== undefined && (await look(area.root, beside))?.isSymbolicLink() === true
  if (beside === undefined || isLink) {
    const where = isLink ? 'is a symbolic link, which is not followed' : 'does not lie beside it in the domain'
    outside.push(`The backing file ${JSON.stringify(shown(name))} of ${shown(overlay)} ${where}: ` +
      'whether it is there was not looked at, and the image cannot be copied.')
    return undefined
  }
  return { name: beside, format: format === undefined ? formatOfName(beside) : isFormat(format) ? format : undefined }
}

/** By another path of the domain, or in another way to write it. */
async function inDomain (area: Area, reference: string): Promise<string | undefined> {
  const [path, ...others] = pathsIn(reference)
  if (path === undefined || others.length > 0 || /^[^/]*:/.test(path)) return undefined
  return nameInDomain(await pathsOf(area), path)
}
