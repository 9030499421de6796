import { AppError } from '../../../errors.ts'
import { isFormat } from '../../../qemu/commands.ts'
import { invalidImage, undeclaredFormat } from '../../../qemu/header.ts'
import { look } from '../../../system/directory.ts'
import type { Area } from '../../area.ts'
import { isLeased } from '../../lease.ts'
import { fileBeside, formatOfName, isImageName, sourceFormat } from '../../names.ts'
import type { ImageAddress } from '../../protocol.ts'
import { readRecord } from '../../record.ts'
import type { ChainFile, SourceChain } from '../source-chain.ts'

/** An image file, and what its own header says of the ones below it: they must lie beside it. */
export async function directoryChain (area: Area, { domain, image, format }: ImageAddress): Promise<SourceChain> {
  const record = await readRecord(area.copies, area.id, image)
  const isWhole = await look(area.root, image) !== undefined
  if (!isWhole && record !== undefined && record.phase !== 'done') {
    throw new AppError('image-interrupted', `Image ${image} in domain ${domain} is itself an unfinished copy${await isLeased(area.leases, image) ? ' that is still running' : '; mend it first'}.`)
  }
  return {
    top: { image, format: sourceFormat(image, format), directory: area.root, name: image },
    below: (file, backing) => {
      if (backing === undefined) return undefined
      const name = fileBeside(backing.name, area.path)
      if (name === undefined || !isImageName(name)) {
        const quoted = JSON.stringify(backing.name.slice(0, 200))
        throw invalidImage(file.image, `its backing file ${quoted} does not lie beside it in the domain`)
      }
      return { image: name, ...backingFormat(file.image, name, backing.format), directory: area.root, name }
    },
    changes: async () => []
  }
}

/** What the overlay declares. The name is only asked where that says nothing: a qcow2 image may well be called base.img. */
function backingFormat (overlay: string, name: string, declared: string | undefined): Pick<ChainFile, 'format' | 'undeclared'> {
  if (declared !== undefined) {
    if (isFormat(declared)) return { format: declared }
    throw invalidImage(overlay, `it declares ${JSON.stringify(declared)} as the format of its backing file ${name}, and only raw and qcow2 can be read`)
  }
  const format = formatOfName(name)
  if (format === undefined) throw undeclaredFormat(overlay, name, 'and the name does not tell it')
  return { format, undeclared: true }
}
