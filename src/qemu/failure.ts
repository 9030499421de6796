/** What a failed qemu-img was about. It has one exit status for everything, so its words must be read; LC_ALL=C keeps them English. */
export type QemuFailure = 'in-use' | 'no-space' | 'too-large' | 'cut-off' | 'storage' | 'no-aio' | 'other'

/** EIO, EROFS, ESTALE, ENOTCONN, EREMOTEIO, EUCLEAN, ENOLCK, EACCES, EPERM, as glibc words them. */
const storageWords = new RegExp([
  'Input/output error', 'Read-only file system', 'Stale file handle', 'Transport endpoint is not connected', 'Remote I/O error', 'Structure needs cleaning', 'No locks available',
  'Permission denied', 'Operation not permitted'
].join('|'))

/** Tells the failures apart that callers can do something about. */
export function classifyFailure (stderr: string): QemuFailure {
  // the kernel has a number of them for all programs together (/proc/sys/fs/aio-max-nr), and the guests take theirs
  if (/Unable to use native AIO/.test(stderr)) return 'no-aio'
  if (/Failed to (get|lock)|Is another process using the image/.test(stderr)) return 'in-use'
  if (/No space left on device|Disk quota exceeded/.test(stderr)) return 'no-space'
  // files and images larger than the file system or qcow2 can have them
  if (/File too large|image size is too large|too large for file format/i.test(stderr)) return 'too-large'
  // EBADF, EBADFD: the connection was lost, and with it what was open
  if (/Bad file descriptor|File descriptor in bad state/.test(stderr)) return 'cut-off'
  if (storageWords.test(stderr)) return 'storage'
  return 'other'
}

/** The line of a failed qemu-img that says what was wrong: what follows it may be its usage. */
export function failureLine (stderr: string): string {
  const lines = stderr.trim().split('\n')
  return (lines.find(line => line.startsWith('qemu-img: ')) ?? lines.at(-1) ?? '').replace('qemu-img: ', '').replaceAll(/'?\/proc\/self\/fd\/\d+'?/g, 'the image')
}
