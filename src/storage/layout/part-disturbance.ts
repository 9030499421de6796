import { look, statFd, type Directory } from '../../system/directory.ts'
import type { Part } from '../copy/part.ts'
import { inodeOf } from '../identity.ts'

/** What somebody else has done to the file that a copy is being written to: its name, its links, its length. */
export async function partDisturbance (directory: Directory, name: string, part: Part): Promise<string | undefined> {
  // before the look: qemu-img makes a qcow2 file longer at any time, and another look may have seen that
  const { least } = part.length
  const [named, open] = [await look(directory, name), await statFd(part.fd)]
  if (named === undefined) return `its file ${name} was renamed or removed`
  if (!named.isFile() || inodeOf(named) !== part.inode) return `its file ${name} was exchanged for another one`
  if (named.nlink > 1n) return `its file ${name} was given another name, too`
  const isLongEnough = part.header === undefined ? open.size === least : open.size >= least
  if (!isLongEnough) return `its file ${name} was cut or lengthened, from ${least} to ${open.size} bytes`
  if (open.size > part.length.least) part.length.least = open.size
  return undefined
}
