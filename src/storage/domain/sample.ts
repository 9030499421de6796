import { randomUUID } from 'node:crypto'
import { constants } from 'node:fs'
import { copyFile, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { closeFd, entry, openFile, truncateFd } from '../../system/directory.ts'
import { linkFile, removeFile, syncFile } from '../../system/durable.ts'
import { runOk } from '../../system/run.ts'
import type { Area } from '../area.ts'
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
 * @param program a big file to put into it, so that the copy has data to move.
 * @param path the folders in which mkfs.ext4 is looked for, as in PATH.
 */
export async function makeSample (area: Area, program: string, path: string): Promise<boolean> {
  if ((await readdir(entry(area.root, '.'))).some(isImageName)) return false
  const part = randomUUID()
  const content = await mkdtemp(join(tmpdir(), 'vdsm-tasks-sample-'))
  try {
    await mkdir(join(content, 'bin'))
    await writeFile(join(content, 'README.txt'), welcome)
    await copyFile(program, join(content, 'bin', 'node'))
    const fd = await openFile(area.parts, part, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL)
    try {
      await truncateFd(fd, sampleBytes)
      // the root directory of the image is the directory given with -d
      await runOk(['mkfs.ext4', '-q', '-F', '-L', 'sample', '-d', content, '/proc/self/fd/3'], { fds: [fd], env: { PATH: path } })
      await syncFile(fd)
    } finally {
      await closeFd(fd)
    }
    await linkFile(area.parts, part, area.root, name)
    return true
  } finally {
    await removeFile(area.parts, part)
    await rm(content, { recursive: true, force: true })
  }
}
