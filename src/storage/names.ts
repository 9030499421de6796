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
