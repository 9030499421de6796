import { AppError } from '../errors.ts'
import { classifyFailure, failureLine } from '../qemu/failure.ts'
import { hasCode, NotAFileError } from '../system/directory.ts'
import { CommandError } from '../system/run.ts'

/** Puts what the storage or a program said into the words of our catalogue. `what` names the object. */
export function explain (error: unknown, what: string): AppError {
  if (error instanceof AppError) return error
  if (error instanceof CommandError) {
    const code = { 'no-space': 'no-space', 'in-use': 'image-in-use', storage: 'storage-failed', 'no-aio': 'storage-failed', other: 'storage-failed' } as const
    return new AppError(code[classifyFailure(error.stderr)], `${what}: ${failureLine(error.stderr) || error.message}`, { cause: error })
  }
  if (error instanceof NotAFileError) return new AppError('image-invalid', `${what}: ${error.message}`, { cause: error })
  if (hasCode(error, 'ENOSPC', 'EDQUOT')) return new AppError('no-space', `${what}: there is no space left on the storage.`, { cause: error })
  if (hasCode(error, 'EFBIG')) return new AppError('no-space', `${what}: the storage cannot hold a file of this size.`, { cause: error })
  if (hasCode(error, 'EROFS')) return new AppError('storage-failed', `${what}: the file system is mounted read-only, or has become so because its disk failed. Mount it for writing.`, { cause: error })
  if (error instanceof Error && 'syscall' in error) return new AppError('storage-failed', `${what}: ${error.message}`, { cause: error })
  return new AppError('internal', `${what}: the agent failed. Its log tells more.`, { cause: error })
}
