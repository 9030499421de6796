import { createServer } from 'node:net'
import { readFile } from 'node:fs/promises'
import t from 'tap'
import { AppError } from '../../src/errors.ts'
import { answers, resultOf } from '../../src/storage/answers.ts'
import { explain } from '../../src/storage/failure.ts'
import { outcomeOf, type Outcome } from '../../src/storage/outcome.ts'
import { NotAFileError } from '../../src/system/directory.ts'
import { CommandError } from '../../src/system/run.ts'
import { failureOf as system } from '../helpers/system-error.ts'
import { needs } from '../helpers/needs.ts'

needs('qemu-img')

const command = (stderr: string): CommandError => new CommandError('qemu-img ended with status 1', { argv: ['qemu-img'], exitCode: 1, stderr })

t.test('every failure gets a code of the catalogue', async t => {
  for (const [error, code] of [
    [new AppError('lease-lost', 'gone'), 'lease-lost'],
    [system('ENOSPC'), 'no-space'],
    [system('EDQUOT'), 'no-space'],
    [system('EFBIG'), 'file-too-large'],
    [system('EBADF'), 'lease-lost'],
    [system('EBADFD'), 'lease-lost'],
    [system('ESTALE'), 'storage-failed'],
    [system('ENOLCK'), 'storage-failed'],
    [system('EUCLEAN'), 'storage-failed'],
    [system('EACCES'), 'storage-failed'],
    [system('EIO'), 'storage-failed'],
    [system('ENOMEM'), 'out-of-memory'],
    [new CommandError('qemu-img could not be started', { argv: ['qemu-img'], cause: system('ENOMEM') }), 'out-of-memory'],
    [command('qemu-img: Could not open \'x\': Could not allocate metadata caches'), 'out-of-memory'],
    [system('EROFS'), 'storage-failed'],
    [new NotAFileError('x'), 'image-invalid'],
    [command('qemu-img: error while writing at byte 0: No space left on device'), 'no-space'],
    [command('qemu-img: Could not open: Failed to get shared "write" lock\nIs another process using the image [x]?'), 'image-in-use'],
    [command('qemu-img: error while writing at byte 0: File too large'), 'file-too-large'],
    [command('qemu-img: error while writing at byte 0: Bad file descriptor'), 'lease-lost'],
    [new CommandError('ended by SIGXFSZ', { argv: ['qemu-img'], signal: 'SIGXFSZ' }), 'file-too-large'],
    [new CommandError('killed', { argv: ['qemu-img'], signal: 'SIGKILL' }), 'storage-process-died'],
    [new CommandError('aborted', { argv: ['qemu-img'], signal: 'SIGABRT', stderr: 'qemu: qemu_thread_create: Resource temporarily unavailable' }), 'out-of-memory'],
    [command('qemu-img: something else'), 'storage-failed'],
    [new TypeError('x is undefined'), 'internal'],
    ['text', 'internal']
  ] as const) {
    const known = explain(error, 'Domain local')
    t.equal(known.code, code, String(error))
    if (!(error instanceof AppError)) t.match(known.message, /^Domain local: /)
  }
})

t.test('the signal that ended a program is named, and what may have sent it', async t => {
  for (const [signal, words] of [
    ['SIGKILL', /qemu-img was ended by SIGKILL: .*the kernel when memory runs out/],
    ['SIGXFSZ', /qemu-img was ended by SIGXFSZ: .*ulimit -f/],
    ['SIGXCPU', /qemu-img was ended by SIGXCPU: .*processor time/],
    ['SIGSEGV', /qemu-img was ended by SIGSEGV/],
    ['SIGUSR1', /qemu-img was ended by SIGUSR1: somebody sent it/]
  ] as const) t.match(explain(new CommandError('x', { argv: ['qemu-img'], signal }), 'x').message, words)
  t.match(explain(new CommandError('x', { argv: ['mount'], signal: 'SIGTERM', stderr: 'last words' }), 'x').message, /mount was .* \(last words\)/)
})

t.test('a bug gives nothing away, and a real system error is named', async t => {
  t.notMatch(explain(new TypeError('secret'), 'x').message, /secret/)
  const missing = await readFile('/nowhere/at/all').catch((error: unknown) => error)
  t.match(explain(missing, 'Domain local'), { code: 'storage-failed', message: /ENOENT/ })
  const server = createServer().listen('/nowhere/at/all')
  const failure = await new Promise(resolve => { server.once('error', resolve) })
  t.match(explain(failure, 'Domain local'), { code: 'storage-failed' })
})

t.test('an outcome keeps result, code, words, members and whether something changed across a border', async t => {
  const unexpected: unknown[] = []
  const cross = async (work: () => Promise<unknown>) => JSON.parse(JSON.stringify(await outcomeOf('Domain local', work, error => { unexpected.push(error) })))
  const take = (outcome: Outcome<string[]>) => resultOf(outcome, 'Domain local', answers.domains)
  const domains = ['0b6c0b0e-5a3f-4e0e-9f5e-2f6a3c1d4e5f']
  t.same(take(await cross(async () => domains)), domains)
  const failed = await cross(async () => { throw new AppError('no-space', 'full', { members: { bytesFree: 0 }, changed: true }) })
  t.throws(() => take(failed), { code: 'no-space', message: 'full', members: { bytesFree: 0 }, changed: true })
  t.same(unexpected, [])
  const bug = new TypeError('bug')
  const unforeseen = await cross(async () => { throw bug })
  t.throws(() => take(unforeseen), { code: 'internal' })
  t.same(unexpected, [bug], 'a bug is for the log')
  t.throws(() => take({ error: { code: 'toString' as 'internal', detail: 'x', members: {}, changed: false } }), { code: 'internal' }, 'a code that is none of ours')
})
