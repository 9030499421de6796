import { constants } from 'node:fs'
import { AppError } from '../errors.ts'
import { lockProbeCommand } from '../qemu/commands.ts'
import { classifyFailure } from '../qemu/failure.ts'
import { closeFd, openFile, type Directory } from '../system/directory.ts'
import { run } from '../system/run.ts'

/** Refuses while a guest has an image open. Whether it is a sound image does not matter here. */
export async function assertUnused (directory: Directory, name: string, image: string, consequence: string): Promise<void> {
  const fd = await openFile(directory, name, constants.O_RDONLY)
  try {
    const { exitCode, stderr } = await run(lockProbeCommand(3), { fds: [fd], maxOutput: 0, timeoutMs: 60_000 })
    if (exitCode !== 0 && classifyFailure(stderr) === 'in-use') {
      throw new AppError('image-in-use', `Image ${image} is open in another program, most likely a guest. ${consequence}`)
    }
  } finally {
    await closeFd(fd)
  }
}
