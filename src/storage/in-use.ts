import { constants } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { AppError } from '../errors.ts'
import { lockProbeCommand } from '../qemu/commands.ts'
import { classifyFailure, isCutShort } from '../qemu/failure.ts'
import { runQemu } from '../qemu/run.ts'
import { closeFd, openFile, type Directory } from '../system/directory.ts'
import { CommandError } from '../system/run.ts'
import { explain } from './failure.ts'
import { openersOf } from '../system/openers.ts'

/** Looks at an image take a moment, those of dry runs and of other agents, too: who has it open for longer is not one of them. */
const looks = 6
const pauseMs = 100

/**
 * Refuses while another program has an image open, if only to read it: a guest that has it attached, an export, a process
 * that has it as the base of an overlay. qemu's locks show those of all hosts; /proc shows every program of this one. Whether
 * it is a sound image does not matter here.
 */
export async function assertUnused (directory: Directory, name: string, image: string, consequence: string): Promise<void> {
  const fd = await openFile(directory, name, constants.O_RDONLY)
  try {
    for (let look = 1; ; look++) {
      const user = await userOf(fd, name, `Whether image ${image} is in use is not known. ${consequence}`)
      if (user === undefined) return
      if (look === looks) throw new AppError('image-in-use', `Image ${image} is open in ${user}. ${consequence}`)
      await sleep(pauseMs)
    }
  } finally {
    await closeFd(fd)
  }
}

/** Who has a file open at the moment, in words. */
async function userOf (fd: number, name: string, unknown: string): Promise<string | undefined> {
  const probe = await runQemu(lockProbeCommand(3), { fds: [fd], owner: undefined, maxOutput: 0, timeoutMs: 60_000 })
  if (classifyFailure(probe) === 'in-use') return 'another program, most likely a guest'
  // one that did not come to its end says nothing about the image
  if (isCutShort(probe)) throw explain(new CommandError('the look for locks was cut short', probe), unknown)
  const openers = await openersOf(fd, name)
  return openers.length === 0 ? undefined : openers.slice(0, 3).join(', ')
}
