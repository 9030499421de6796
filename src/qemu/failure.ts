import { signalWords } from '../system/signals.ts'

/** What a failed qemu-img was about. */
export type QemuFailure = 'in-use' | 'no-space' | 'too-large' | 'cut-off' | 'storage' | 'no-aio' | 'no-memory' | 'killed' | 'other'

/** How a program ended that failed. */
export interface Failed {
  argv?: readonly string[]
  signal?: string | undefined
  stderr: string
}

/** EIO, EROFS, ESTALE, ENOTCONN, EREMOTEIO, EUCLEAN, ENOLCK, EACCES, EPERM, as glibc words them. */
const storageWords = new RegExp([
  'Input/output error', 'Read-only file system', 'Stale file handle', 'Transport endpoint is not connected', 'Remote I/O error', 'Structure needs cleaning', 'No locks available',
  'Permission denied', 'Operation not permitted'
].join('|'))

/**
 * ENOMEM as glibc words it, and what qemu and its libraries say of memory that they do not get. A thread that cannot be made
 * has no memory for its stack, or is one too many for the host.
 */
const memoryWords = new RegExp([
  'Cannot allocate memory', 'ould not allocate (?!clusters)', 'failed to allocate', 'qemu_thread_create', 'Out of memory'
].join('|'))

/**
 * Tells the failures apart that callers can do something about. qemu-img has one exit status for everything, so its words
 * must be read; LC_ALL=C keeps them English.
 */
export function classifyFailure ({ signal, stderr }: Failed): QemuFailure {
  // the kernel has a number of them for all programs together (/proc/sys/fs/aio-max-nr), and the guests take theirs
  if (/Unable to use native AIO/.test(stderr)) return 'no-aio'
  if (/Failed to (get|lock)|Is another process using the image/.test(stderr)) return 'in-use'
  if (/No space left on device|Disk quota exceeded/.test(stderr)) return 'no-space'
  // files and images larger than the file system or qcow2 can have them
  if (/File too large|image size is too large|too large for file format/i.test(stderr)) return 'too-large'
  // EBADF, EBADFD: the connection was lost, and with it what was open
  if (/Bad file descriptor|File descriptor in bad state/.test(stderr)) return 'cut-off'
  if (memoryWords.test(stderr)) return 'no-memory'
  if (storageWords.test(stderr)) return 'storage'
  // what it said before is no reason for that
  if (signal !== undefined) return signal === 'SIGXFSZ' ? 'too-large' : 'killed'
  return 'other'
}

/** Whether a program did not come to its end, so that it says nothing of the image it looked at. */
export function isCutShort (ended: Failed): boolean {
  const failure = classifyFailure(ended)
  return failure === 'killed' || failure === 'no-memory'
}

/**
 * What was wrong, in words: the line in which qemu-img says it, for what follows that may be its usage; of one that was
 * ended by a signal, that, too.
 */
export function failureLine ({ argv: [program] = ['qemu-img'], signal, stderr }: Failed): string {
  const lines = stderr.trim().split('\n')
  const line = (lines.find(line => line.startsWith('qemu-img: ')) ?? lines.at(-1) ?? '')
    .replace('qemu-img: ', '').replaceAll(/'?\/proc\/self\/fd\/\d+'?/g, 'the image')
  return signal === undefined ? line : `${program} ${signalWords(signal)}${line === '' ? '' : ` (${line})`}`
}
