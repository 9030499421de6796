import type { Format } from '../api/format.ts'
import { imageNamePattern } from '../api/names.ts'
import { AppError } from '../errors.ts'

const imageName = new RegExp(imageNamePattern)

// a Map, not an object: a file may well be called x.constructor
const formatByExtension: ReadonlyMap<string, Format> = new Map([['qcow2', 'qcow2'], ['raw', 'raw'], ['img', 'raw'], ['iso', 'raw']])

/** Whether a file name is one that an image may have. */
export function isImageName (name: string): boolean {
  return imageName.test(name)
}

/**
 * The file beside an image that a backing file name in it means, as qemu reads such names: a bare name, also behind `./`,
 * or a path into the image's own directory. Undefined for any other path, and for what qemu takes for a protocol
 * (`nbd:host:1`), even where a file has that name.
 *
 * @param directory the absolute path of the image's directory, where names may begin with it.
 */
export function fileBeside (name: string, directory?: string): string | undefined {
  const path = directory !== undefined && name.startsWith(`${directory}/`) ? `./${name.slice(directory.length + 1)}` : name
  if (/^[^/]*:/.test(path)) return undefined
  const file = path.replace(/^(?:\.\/+)+/, '')
  return file === '' || file === '.' || file === '..' || file.includes('/') ? undefined : file
}

/** The format that the extension of an image name stands for, if it stands for one. */
export function formatOfName (image: string): Format | undefined {
  const extension = /\.([^.]+)$/.exec(image)?.[1]?.toLowerCase()
  return extension === undefined ? undefined : formatByExtension.get(extension)
}

/** The format to read an image in: what the request says, else what the name says. The content is never asked. */
export function sourceFormat (image: string, given: Format | undefined): Format {
  const format = given ?? formatOfName(image)
  if (format === undefined) throw new AppError('format-unknown', `The name ${image} does not tell its format. Give "format": "raw" or "qcow2"; a format is never guessed from the content.`)
  return format
}

/**
 * The format to write an image in. A name must not lie about it: whoever goes by the extension later
 * would read one format as the other.
 */
export function targetFormat (image: string, given: Format | undefined): Format {
  const byName = formatOfName(image)
  if (given !== undefined && byName !== undefined && given !== byName) {
    throw new AppError('format-conflict', `A file named ${image} is ${byName} by its extension, not ${given}. Choose another name or leave out "format".`)
  }
  return sourceFormat(image, given)
}
