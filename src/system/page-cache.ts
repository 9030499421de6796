import { constants } from 'node:fs'
import { closeFd, reopenFile } from './directory.ts'
import { hasErrno } from './errno.ts'
import { runOk } from './run.ts'

/**
 * Takes what is durable of an open file out of the page cache (posix_fadvise(2), POSIX_FADV_DONTNEED, which Node does not
 * have and dd has), and has the kernel begin to write the rest.
 */
export async function dropCached (fd: number): Promise<void> {
  await runOk(['dd', 'if=/proc/self/fd/3', 'iflag=nocache', 'count=0', 'status=none'], { fds: [fd], maxOutput: 0 })
}

/** Whether an open file can be read and written past the page cache. tmpfs, for one, is nothing but page cache. */
export async function takesDirectIo (fd: number): Promise<boolean> {
  try {
    await closeFd(await reopenFile(fd, constants.O_RDONLY | constants.O_DIRECT))
    return true
  } catch (error) {
    if (hasErrno(error, 'EINVAL')) return false
    throw error
  }
}
