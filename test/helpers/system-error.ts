import { constants } from 'node:os'
import { getSystemErrorName } from 'node:util'
import type { ErrnoName } from '../../src/system/errno.ts'

const numbers: Readonly<Record<string, number>> = { ...constants.errno, EBADFD: 77, EHOSTDOWN: 112, EUCLEAN: 117, EREMOTEIO: 121 }

/** A system error as Node makes it of this number. */
export function failureOf (name: ErrnoName): NodeJS.ErrnoException {
  const errno = -(numbers[name] ?? 0)
  const code = getSystemErrorName(errno)
  return Object.assign(new Error(`${code}: words, write`), { code, syscall: 'write', errno })
}
