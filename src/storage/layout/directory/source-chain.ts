import { AppError } from '../../../errors.ts'
import { isFormat } from '../../../qemu/commands.ts'
import { invalidImage } from '../../../qemu/header.ts'
import { look } from '../../../system/directory.ts'
import type { Area } from '../../area.ts'
import { isLeased } from '../../lease.ts'
import { formatOfName, isImageName, sourceFormat } from '../../names.ts'
import type { ImageAddress } from '../../protocol.ts'
import { readRecord } from '../../record.ts'
import type { SourceChain } from '../source-chain.ts'

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
      const name = backing.name.startsWith(`${area.path}/`) ? backing.name.slice(area.path.length + 1) : backing.name
      if (!isImageName(name)) throw invalidImage(file.image, `its backing file ${JSON.stringify(backing.name.slice(0, 200))} does not lie beside it in the domain`)
      const format = formatOfName(name) ?? backing.format
      if (format === undefined || !isFormat(format)) throw invalidImage(file.image, `the format of its backing file ${name} is not known: neither name nor image tells it`)
      return { image: name, format, directory: area.root, name }
    },
    changes: async () => []
  }
}
