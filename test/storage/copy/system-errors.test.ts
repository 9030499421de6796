import { chown, lstat, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { prepareArea } from '../../../src/storage/area.ts'
import { temporaryDirectory } from '../../helpers/directory.ts'
import { makeDisk, MiB, sh, sha256 } from '../../helpers/images.ts'
import { copyJob, rawCopy, storageJobs } from '../../helpers/storage-jobs.ts'
import { runUntilCall } from '../../helpers/kill-at-call.ts'
import { runFailing } from '../../helpers/strace.ts'

t.setTimeout(300_000)

const { argvOf, work } = await storageJobs(t)

/** Where a copy fails, with what, and what it is told as. Of `fdatasync`, the first two are of the source, the third is the flusher's. */
const failures = [
  ['fdatasync', 'EDQUOT', '3+', 'no-space'],
  ['fdatasync', 'ENOSPC', '3+', 'no-space'],
  ['fdatasync', 'EBADF', '3+', 'lease-lost'],
  ['fdatasync', 'EIO', '3+', 'storage-failed'],
  ['fsync', 'EDQUOT', '1', 'no-space'],
  ['fsync', 'ESTALE', '1', 'storage-failed'],
  ['fsync', 'EUCLEAN', '3', 'storage-failed'],
  ['rename', 'EDQUOT', '1', 'no-space'],
  ['rename', 'EDQUOT', '3', 'no-space'],
  ['link', 'EDQUOT', '1', 'no-space'],
  ['link', 'EACCES', '1', 'storage-failed'],
  ['link', 'EROFS', '1', 'storage-failed'],
  ['ftruncate', 'EFBIG', '1', 'file-too-large'],
  ['ftruncate', 'EFBIG', '2', 'file-too-large'],
  ['pwrite64,pwritev,io_submit', 'EDQUOT', '1+', 'no-space'],
  ['flock', 'ENOLCK', '1', 'storage-failed'],
  ['flock', 'EBADF', '1', 'lease-lost']
] as const

for (const [call, error, when, code] of failures) {
  t.test(`a copy whose ${call} fails with ${error} is told as ${code}, and the next one is whole`, async t => {
    const path = await temporaryDirectory(t)
    await prepareArea({ id: 'local', path }, true)
    await makeDisk(join(path, 'source.raw'), 3 * MiB)
    const job = copyJob([{ id: 'local', path }], rawCopy, { clone: false })
    const failure = JSON.parse(await runFailing(argvOf(job), call, error, when)) as { code: string, message: string }
    t.match(failure, { code })
    if (call === 'fdatasync') t.match(failure.message, /^What was written to target\.raw could not be made durable: /)
    await t.rejects(lstat(join(path, 'target.raw')), { code: 'ENOENT' }, 'nobody sees it')
    await work(job)
    t.equal(await sha256(join(path, 'target.raw')), await sha256(join(path, 'source.raw')))
    t.strictSame(await readdir(join(path, '.vdsm-tasks/parts')), [])
  })
}

t.test('an image whose owner, ACL or attributes another file cannot have is not replaced, which is told at once', async t => {
  const path = await temporaryDirectory(t)
  await prepareArea({ id: 'local', path }, true)
  await makeDisk(join(path, 'source.raw'), 3 * MiB)
  await makeDisk(join(path, 'target.raw'), MiB)
  await chown(join(path, 'target.raw'), 1234, 2345)
  await sh('setfattr', '-n', 'user.note', '-v', 'mine', join(path, 'target.raw'))
  const before = await sha256(join(path, 'target.raw'))
  const { job } = copyJob([{ id: 'local', path }], { ...rawCopy, onExisting: 'replace' })
  for (const what of ['preview', 'copy'] as const) {
    for (const [call, error, lost] of [['fchown', 'EPERM', /owner 1234:2345/], ['setxattr', 'EOPNOTSUPP', /attribute user\.note/]] as const) {
      t.match(JSON.parse(await runFailing(argvOf({ what, job }), call, error, '1+')), { code: 'not-supported', message: lost }, `${what}: ${call}`)
      for (const room of ['parts', 'copies']) t.strictSame(await readdir(join(path, '.vdsm-tasks', room)), [], `${what} leaves nothing in ${room}`)
    }
  }
  t.equal(await sha256(join(path, 'target.raw')), before)

  // what is begun may be refused later
  t.equal(await runUntilCall(argvOf({ what: 'copy', job }), { name: 'rename', number: 4 }), 'SIGKILL')
  const mend = copyJob([{ id: 'local', path }], { what: 'mend', domain: 'local', image: 'target.raw' })
  const record = join(path, '.vdsm-tasks/copies/target.raw.json')
  const left = await readFile(record, 'utf8')
  t.match(JSON.parse(await runFailing(argvOf(mend), 'setxattr', 'EOPNOTSUPP', '1+')), { code: 'not-supported' })
  t.equal(await readFile(record, 'utf8'), left, 'the copy was not even taken over')
  await work(mend)
  t.equal(await sha256(join(path, 'target.raw')), await sha256(join(path, 'source.raw')))
})

t.test('what is larger than a file of the domain may be is refused by the dry run, and leaves nothing', async t => {
  const path = await temporaryDirectory(t)
  await prepareArea({ id: 'local', path }, true)
  await makeDisk(join(path, 'source.raw'), 3 * MiB)
  const { job } = copyJob([{ id: 'local', path }], rawCopy, { clone: false })
  const limited = ['prlimit', `--fsize=${2 * MiB}`, ...argvOf({ what: 'preview', job })]
  t.match(JSON.parse(await runFailing(limited, 'flock', 'EIO', '1000')), { code: 'file-too-large', message: /3145728 bytes/ })
  for (const room of ['parts', 'copies']) t.strictSame(await readdir(join(path, '.vdsm-tasks', room)), [], room)
})
