import { execFile } from 'node:child_process'
import { access, mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { prepareArea } from '../../../src/storage/area.ts'
import { total, type Ranges } from '../../../src/storage/ranges.ts'
import { temporaryDirectory } from '../../helpers/directory.ts'
import { compare, identical, makeDisk, MiB } from '../../helpers/images.ts'
import { killedQemuImg } from '../../helpers/killed-programs.ts'
import { change } from '../../helpers/storage-change.ts'
import { copyJob, rawCopy, storageJobs } from '../../helpers/storage-jobs.ts'
import { runUntilCall } from '../../helpers/kill-at-call.ts'

t.setTimeout(300_000)

const { argvOf, work } = await storageJobs(t)

const request = { ...rawCopy, target: { ...rawCopy.target, image: 'target.qcow2', format: 'qcow2' }, verify: true } as const

/** A domain with a source, and one with programs. */
async function scene (test: Test): Promise<{ path: string, bin: string }> {
  const top = await temporaryDirectory(test)
  const [path, bin] = [join(top, 'domain'), join(top, 'bin')]
  await mkdir(bin)
  await prepareArea({ id: 'local', path }, true)
  await makeDisk(join(path, 'source.raw'), 12 * MiB)
  return { path, bin }
}

/** Does a job with other programs; returns how it failed. */
async function failureWith (PATH: string, job: Parameters<typeof argvOf>[0]): Promise<{ code: string, message: string }> {
  const [program = '', ...args] = argvOf(job)
  const { stdout } = await promisify(execFile)(program, args, { env: { ...process.env, PATH } }).then(() => ({ stdout: '{}' }), (error: unknown) => error as { stdout: string })
  return JSON.parse(stdout) as { code: string, message: string }
}

t.test('each program of a copy that is killed is told with its signal, and the next run goes on', async t => {
  for (const [command, code] of [
    ['convert', 'storage-process-died'],
    ['map', 'storage-process-died'],
    ['create', 'storage-process-died'],
    ['compare', 'storage-process-died']
  ] as const) {
    const { path, bin } = await scene(t)
    const job = copyJob([{ id: 'local', path }], request)
    const failure = await failureWith(await killedQemuImg(bin, command), job)
    t.match(failure, { code, message: /qemu-img was ended by SIGKILL: .*memory/ }, command)
    await work(job)
    t.equal(await compare({ path: join(path, 'source.raw'), format: 'raw' }, { path: join(path, 'target.qcow2'), format: 'qcow2' }), identical)
  }
})

t.test('a check of the part that is killed forgets nothing of what is done', async t => {
  const { path, bin } = await scene(t)
  const places = [{ id: 'local', path }]
  const slow = copyJob(places, request, { windowSeconds: 1, bandwidth: 2 * MiB })
  const done = async () => {
    const { copyId, done } = JSON.parse(await readFile(join(path, '.vdsm-tasks/copies/target.qcow2.json'), 'utf8')) as { copyId: string, done: Ranges }
    return { copyId, bytes: total(done) }
  }
  // a rename is a checkpoint
  await runUntilCall(argvOf(slow), { name: 'rename', number: 6 })
  const before = await done()
  t.ok(before.bytes > 0)
  for (const [signal, code] of [['KILL', 'storage-process-died'], ['TERM', 'storage-process-died']] as const) {
    const failure = await failureWith(await killedQemuImg(bin, 'check', signal), copyJob(places, { what: 'mend', domain: 'local', image: 'target.qcow2' }))
    t.match(failure, { code, message: new RegExp(`SIG${signal}`) })
    t.same(await done(), before)
  }
  await work(copyJob(places, { what: 'mend', domain: 'local', image: 'target.qcow2' }))
  t.equal(await compare({ path: join(path, 'source.raw'), format: 'raw' }, { path: join(path, 'target.qcow2'), format: 'qcow2' }), identical)
})

t.test('an image is not deleted where the look whether it is in use was killed', async t => {
  const { path, bin } = await scene(t)
  const job = { what: 'delete', place: { id: 'local', path }, request: { image: 'source.raw', host: { id: 'node1' }, taskId: 'x' } } as const
  t.match(await failureWith(await killedQemuImg(bin, 'convert'), job), { code: 'storage-process-died', message: /Nothing was deleted.*SIGKILL/ })
  await access(join(path, 'source.raw'))
  await change(job)
  await t.rejects(access(join(path, 'source.raw')))
})
