import { constants } from 'node:os'

/** Linux has these, and Node no name for them; the numbers are those of every architecture that Node is built for. */
const unnamed = { EBADFD: 77, EHOSTDOWN: 112, EUCLEAN: 117, EREMOTEIO: 121 } as const

const numbers: Readonly<Record<string, number>> = { ...constants.errno, ...unnamed }

/** The name of a system error, as errno(3) has it. */
export type ErrnoName = keyof typeof constants.errno | keyof typeof unnamed

/**
 * Whether an error is a system error of one of these kinds. By number: Node has no names for ESTALE, EDQUOT, ENOLCK and
 * EUCLEAN, so that `code` is "Unknown system error -116".
 */
export function hasErrno (error: unknown, ...names: ErrnoName[]): boolean {
  const number = errnoOf(error)
  return number !== undefined && names.some(name => numbers[name] === number)
}

function errnoOf (error: unknown): number | undefined {
  return error instanceof Error && 'errno' in error && typeof error.errno === 'number' ? -error.errno : undefined
}

/**
 * Whether a descriptor no longer leads to its file: GlusterFS (EBADFD) and NFS (EBADF) say so of files that were open while
 * the connection was lost. Their locks are gone.
 */
export function isCutOff (error: unknown): boolean {
  return hasErrno(error, 'EBADF', 'EBADFD')
}
