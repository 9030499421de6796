import { AppError, type ErrorCode } from '../errors.ts'
import { classifyFailure, failureLine } from '../qemu/failure.ts'
import { isRoot, NotAFileError } from '../system/directory.ts'
import { hasErrno, type ErrnoName } from '../system/errno.ts'
import { CommandError } from '../system/run.ts'

const codeOfCommand = {
  'no-space': 'no-space',
  'too-large': 'file-too-large',
  'cut-off': 'lease-lost',
  'in-use': 'image-in-use',
  storage: 'storage-failed',
  'no-aio': 'storage-failed',
  'no-memory': 'out-of-memory',
  killed: 'storage-process-died',
  other: 'storage-failed'
} as const

interface Known {
  names: ErrnoName[]
  code: ErrorCode
  words: () => string
}

/** System errors that people can do something about, and what. */
const known: readonly Known[] = [
  { names: ['ENOSPC'], code: 'no-space', words: () => 'there is no space left on the storage.' },
  { names: ['EDQUOT'], code: 'no-space', words: () => 'the quota of the storage is used up. Raise it, or make space.' },
  {
    names: ['ENOMEM'],
    code: 'out-of-memory',
    words: () => 'the host has no memory left for it. Stop something there, or raise the limit of the agent (MemoryMax), then try again.'
  },
  {
    names: ['EFBIG'],
    code: 'file-too-large',
    words: () => 'the file system, or the limit of the agent (ulimit -f), does not allow a file of this size. Choose another domain, or qcow2.'
  },
  {
    names: ['EBADF', 'EBADFD'],
    code: 'lease-lost',
    words: () => 'the connection to the storage was lost, and with it open files and their locks. What is done of a copy is kept.'
  },
  {
    names: ['EROFS'],
    code: 'storage-failed',
    words: () => 'the file system is mounted read-only, or has become so because its disk failed. Mount it for writing.'
  },
  { names: ['EACCES', 'EPERM'], code: 'storage-failed', words: deniedWords },
  {
    names: ['ESTALE'],
    code: 'storage-failed',
    words: () => 'the file handle is stale: the server has removed the file or replaced the export. If this goes on, mount it again.'
  },
  {
    names: ['ENOLCK'],
    code: 'storage-failed',
    words: () => 'the file system gives out no locks. On NFS 3, start rpc.statd on both ends and mount without "nolock".'
  },
  { names: ['EUCLEAN'], code: 'storage-failed', words: () => 'the file system is damaged. Unmount and check it (fsck).' }
]

/** Puts what the storage or a program said into the words of our catalogue. `what` names the object. */
export function explain (error: unknown, what: string): AppError {
  if (error instanceof AppError) return error
  if (error instanceof CommandError) {
    // of one that could not even be started, the system says why
    const failure = knownFailure(systemErrorIn(error))
    if (failure !== undefined) return new AppError(failure.code, `${what}: ${failure.words()}`, { cause: error })
    return new AppError(codeOfCommand[classifyFailure(error)], `${what}: ${failureLine(error) || error.message}`, { cause: error })
  }
  if (error instanceof NotAFileError) return new AppError('image-invalid', `${what}: ${error.message}`, { cause: error })
  const failure = knownFailure(error)
  if (failure !== undefined) return new AppError(failure.code, `${what}: ${failure.words()}`, { cause: error })
  if (error instanceof Error && 'syscall' in error) return new AppError('storage-failed', `${what}: ${error.message}`, { cause: error })
  return new AppError('internal', `${what}: the agent failed. Its log tells more.`, { cause: error })
}

/** The code of a failed write or flush. */
export function flushCode (error: unknown): ErrorCode {
  return knownFailure(error)?.code ?? 'storage-failed'
}

/** The first error with a number among the causes of an error. */
function systemErrorIn (error: unknown): unknown {
  return error instanceof Error && !('errno' in error) ? systemErrorIn(error.cause) : error
}

function knownFailure (error: unknown): Known | undefined {
  return known.find(({ names }) => hasErrno(error, ...names))
}

/** The usual reason for denied access, and what to do about it. */
export function deniedWords (): string {
  if (!isRoot()) return 'the storage denies access to the user of the agent. Give the files to that user, or let the agent run as their owner.'
  return 'the storage denies access to root. NFS servers take root for nobody unless they export with no_root_squash (exports(5)): ' +
    'export so, or give the files to the user that root is mapped to, or let the agent run as the owner of the files.'
}
