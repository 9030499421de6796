import { run } from './run.ts'

/**
 * Takes what is durable of an open file out of the page cache (posix_fadvise(2), POSIX_FADV_DONTNEED, which Node does not
 * have and dd has), and has the kernel begin to write the rest. It is advice: nothing comes of an error.
 */
export async function dropCached (fd: number): Promise<void> {
  await run(['dd', 'if=/dev/null', 'of=/proc/self/fd/3', 'oflag=nocache', 'conv=notrunc,nocreat', 'count=0', 'status=none'], { fds: [fd], maxOutput: 0 })
    .catch(() => { /* the pages stay */ })
}
