import { readFile } from 'node:fs/promises'
import { constants } from 'node:os'
import t from 'tap'
import { hasErrno, isCutOff } from '../../src/system/errno.ts'
import { failureOf } from '../helpers/system-error.ts'

t.test('system errors are told apart by number: for some, Node has no name', async t => {
  for (const name of ['ESTALE', 'EDQUOT', 'ENOLCK', 'EUCLEAN', 'EBADFD', 'EIO', 'ENOENT'] as const) {
    t.ok(hasErrno(failureOf(name), 'EPERM', name), name)
    t.notOk(hasErrno(failureOf(name), 'EPERM'), name)
  }
  t.match(failureOf('ESTALE').code, /^Unknown system error -116$/, 'as Node has it')
  const real: unknown = await readFile('/nowhere/at/all').catch((error: unknown) => error)
  t.ok(hasErrno(real, 'ENOENT'))
  t.ok(isCutOff(failureOf('EBADF')) && isCutOff(failureOf('EBADFD')) && !isCutOff(failureOf('EIO')))
})

t.test('what is no system error has no number', async t => {
  const odd = [Object.assign(new Error('x'), { code: 'ENOENT' }), Object.assign(new Error('x'), { errno: '-2' })]
  for (const error of [undefined, 'ENOENT', { errno: -constants.errno.ENOENT }, new Error('x'), ...odd]) {
    t.notOk(hasErrno(error, 'ENOENT'))
  }
})
