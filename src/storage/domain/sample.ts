import { randomUUID } from 'node:crypto'
import { constants } from 'node:fs'
import { open, readdir } from 'node:fs/promises'
import { closeFd, entry, openFile, truncateFd } from '../../system/directory.ts'
import { linkFile, removeFile, syncFile, writeOver } from '../../system/durable.ts'
import { runOk } from '../../system/run.ts'
import { giveImageAccess, type Area } from '../area.ts'
import { isImageName } from '../names.ts'

const sampleBytes = 256 * 1024 * 1024
const name = 'sample.raw'

const welcome = `This is an ext4 file system that vdsm-tasks made, so that there is something to copy.
Mount it with: mount -o loop,ro ${name} /mnt
`

/**
 * Makes a real image in an empty domain, for newcomers: an ext4 file system with a text and a program in it.
 * Returns whether it did.
 *
 * All that is made on the way is a part, which a domain is rid of after a crash: in the system's folder for temporary files
 * a copy of the program would stay for ever.
 *
 * @param program a big file to put into it, so that the copy has data to move.
 * @param path the folders in which mkfs.ext4 and debugfs are looked for, as in PATH.
 */
export async function makeSample (area: Area, program: string, path: string): Promise<boolean> {
  if ((await readdir(entry(area.root, '.'))).some(isImageName)) return false
  const [part, text] = [randomUUID(), randomUUID()]
  const fds: number[] = []
  try {
    // one after the other: whatever fails, what is open is closed
    for (const name of [part, text]) fds.push(await openFile(area.parts, name, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL))
    const [image = -1, words = -1] = fds
    await giveImageAccess(area, image)
    await writeOver(words, welcome)
    await fill(fds, program, path)
    await linkFile(area.parts, part, area.root, name)
    return true
  } finally {
    for (const fd of fds) await closeFd(fd)
    for (const made of [part, text]) await removeFile(area.parts, made)
  }
}

/** @param fds the image, and the text that is to be in it: 3 and 4 for the programs. */
async function fill ([image = -1, text = -1]: readonly number[], program: string, path: string): Promise<void> {
  const source = await open(program)
  try {
    const confinement = { reads: [4, 5], writes: [3], owner: undefined, limits: { cpuSeconds: 600, memoryBytes: 2 ** 32 } }
    const run = async (...argv: [string, ...string[]]) => { await runOk(argv, { fds: [image, text, source.fd], confinement, env: { PATH: path } }) }
    await truncateFd(image, sampleBytes)
    await run('mkfs.ext4', '-q', '-F', '-L', 'sample', '/proc/self/fd/3')
    for (const command of ['write /proc/self/fd/4 README.txt', 'mkdir bin', 'write /proc/self/fd/5 bin/node']) await run('debugfs', '-w', '-R', command, '/proc/self/fd/3')
    await syncFile(image)
  } finally {
    await source.close()
  }
}
