import type { Format } from '../../../api/format.ts'
import { AppError } from '../../../errors.ts'
import { mapCommand } from '../../../qemu/commands.ts'
import { isCutShort } from '../../../qemu/failure.ts'
import { headerBytes, parseQcow2Header } from '../../../qemu/header.ts'
import { parseMap } from '../../../qemu/map.ts'
import { runQemu } from '../../../qemu/run.ts'
import { readBytes, statFd, type Owner } from '../../../system/directory.ts'
import { CommandError } from '../../../system/run.ts'
import { parentIn } from './chain.ts'

/**
 * Whether nothing was written into a volume, without looking at its data: by what the file system and qcow2 know of it.
 * One in which zeros were written out counts as written; so does one whose size is not what its metadata say.
 *
 * @param volume.parent the volume that it is based on: there, zeros hide what that has.
 */
export async function isEmptyVolume (
  fd: number, { format, capacity, parent, owner }: { format: Format, capacity: number, parent?: string | undefined, owner: Owner | undefined }
): Promise<boolean> {
  const { size } = await statFd(fd)
  try {
    if (format === 'qcow2') {
      const header = parseQcow2Header(await readBytes(fd, headerBytes), 'the volume', Number(size))
      if (parentIn(header.backing) !== parent || header.virtualSize !== capacity || header.snapshots > 0) return false
    } else if (Number(size) !== capacity) {
      return false
    }
  } catch (error) {
    if (error instanceof AppError && error.code === 'image-invalid') return false
    throw error
  }
  if (capacity === 0) return true
  const mapped = await runQemu(mapCommand([{ fd: 3, format }], 0, capacity), {
    fds: [fd], owner, maxOutput: 1024 * 1024, timeoutMs: 60_000
  })
  if (isCutShort(mapped)) throw new CommandError('qemu-img map was cut short', mapped)
  const { exitCode, stdout } = mapped
  return exitCode === 0 && parseMap(stdout).every(({ zero, present }) => parent === undefined ? zero : !present)
}
