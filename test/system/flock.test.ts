import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { hasErrno } from '../../src/system/errno.ts'
import { lockFd, LockError } from '../../src/system/flock.ts'
import { temporaryDirectory } from '../helpers/directory.ts'

const path = join(await temporaryDirectory(t), 'lock')
const open = () => openSync(path, 'a+')

t.test('readers share a lock, a writer has it alone', async t => {
  const [first, second, third] = [open(), open(), open()]
  t.ok(await lockFd(first, 'shared'))
  t.ok(await lockFd(second, 'shared'))
  t.notOk(await lockFd(third, 'exclusive'))
  closeSync(second)
  t.ok(await lockFd(first, 'exclusive'), 'the last reader may become the writer')
  t.ok(await lockFd(first, 'exclusive'), 'and is told so again')
  t.notOk(await lockFd(third, 'shared'))
  closeSync(first)
  t.ok(await lockFd(third, 'shared'))
  closeSync(third)
})

t.test('a lock stays until everybody who has inherited it is gone', async t => {
  const [ours, other] = [open(), open()]
  t.ok(await lockFd(ours, 'exclusive'))
  const heir = spawn('cat', { stdio: ['pipe', 'ignore', 'ignore', ours] })
  await once(heir, 'spawn')
  closeSync(ours)
  t.notOk(await lockFd(other, 'shared'))
  heir.stdin?.end()
  await once(heir, 'exit')
  t.ok(await lockFd(other, 'shared'))
  closeSync(other)
})

t.test('a lock that is taken is waited for', async t => {
  const [holder, other] = [open(), open()]
  t.ok(await lockFd(holder, 'exclusive'))
  const waiting = lockFd(other, 'exclusive', 60_000)
  t.notOk(await lockFd(other, 'exclusive', 50), 'but not for ever')
  closeSync(holder)
  t.ok(await waiting)
  closeSync(other)
})

t.test('an error is no lock that somebody has', async t => {
  const fd = open()
  closeSync(fd)
  const error: unknown = await lockFd(fd, 'shared').catch((reason: unknown) => reason)
  t.type(error, LockError)
  t.ok(hasErrno(error, 'EBADF'))
  t.match(error, { message: /EBADF: bad file descriptor/, syscall: 'flock' })
})
