import { readFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { prepareArea } from '../../../src/storage/area.ts'
import { temporaryDirectory } from '../../helpers/directory.ts'
import { makeDisk, makeOld, MiB, sha256 } from '../../helpers/images.ts'
import { copyJob, storageJobs } from '../../helpers/storage-jobs.ts'
import { runDelayed } from '../../helpers/strace.ts'
import { runUntilCall } from '../../helpers/kill-at-call.ts'

t.setTimeout(120_000)

const { argvOf, work } = await storageJobs(t)

t.test('a record stays readable, whatever the bandwidth and the seconds of a window are', async t => {
  const path = await temporaryDirectory(t)
  await prepareArea({ id: 'local', path }, true)
  await makeDisk(join(path, 'source.raw'), 5 * MiB)
  const request = { what: 'copy', source: { domain: 'local', image: 'source.raw', format: 'raw' }, target: { domain: 'local', image: 'target.raw', format: 'raw', allocation: 'sparse' }, verify: false, chain: 'flat', onExisting: 'refuse', ignoreSpace: false } as const
  // a third of this in a third of a second is no whole number of bytes
  const job = copyJob([{ id: 'local', path }], request, { bandwidth: 40 * MiB + 1, parallelWindows: 3, windowSeconds: 0.3 })
  t.equal(await runDelayed(argvOf(job), 'link', 0), 0)
  const { windowBytes } = JSON.parse(await readFile(join(path, '.vdsm-tasks/copies/target.raw.json'), 'utf8')) as { windowBytes: number }
  t.equal(windowBytes % MiB, 0)
})

t.test('no window is left out, however late it is named in the record', async t => {
  const path = await temporaryDirectory(t)
  await prepareArea({ id: 'local', path }, true)
  // windows of 1 MiB, each shorter than a record write: then the last ones are named when the lanes have nothing to do
  for (const windows of [4, 7]) {
    const [source, target] = [`source-${windows}.raw`, `target-${windows}.raw`]
    await makeDisk(join(path, source), windows * MiB, { blockBytes: windows * MiB })
    const request = { what: 'copy', source: { domain: 'local', image: source, format: 'raw' }, target: { domain: 'local', image: target, format: 'raw', allocation: 'sparse' }, verify: false, chain: 'flat', onExisting: 'refuse', ignoreSpace: false } as const
    const job = copyJob([{ id: 'local', path }], request, { bandwidth: 40 * MiB, windowSeconds: 0.05 })
    t.equal(await runDelayed(argvOf(job), 'rename', 300), 0)
    t.match(JSON.parse(await readFile(join(path, `.vdsm-tasks/copies/${target}.json`), 'utf8')), { phase: 'done', bytesMoved: windows * MiB })
    t.equal(await sha256(join(path, target)), await sha256(join(path, source)), `${windows} windows`)
  }
})

t.test('where little but zeros is copied anew, windows become large all the same', async t => {
  const path = await temporaryDirectory(t)
  await prepareArea({ id: 'local', path }, true)
  const source = join(path, 'source.raw')
  const size = 4096 * MiB
  await makeDisk(source, 2 * MiB)
  await truncate(source, size)
  await makeOld(source)
  const request = { what: 'copy', source: { domain: 'local', image: 'source.raw', format: 'raw' }, target: { domain: 'local', image: 'target.raw', format: 'raw', allocation: 'sparse' }, verify: false, chain: 'flat', onExisting: 'refuse', ignoreSpace: false } as const
  const job = copyJob([{ id: 'local', path }], request, { clone: false })
  t.equal(await runUntilCall(argvOf(job), { name: 'link', number: 1 }), 'SIGKILL')
  // as after a comparison that failed
  const file = join(path, '.vdsm-tasks/copies/target.raw.json')
  const record = JSON.parse(await readFile(file, 'utf8')) as object
  await writeFile(file, JSON.stringify({ ...record, phase: 'copying', done: [], begun: [[0, size]], windowBytes: 2 * MiB }))
  await work(job)
  const { phase, windowBytes } = JSON.parse(await readFile(file, 'utf8')) as { phase: string, windowBytes: number }
  t.equal(phase, 'done')
  t.ok(windowBytes >= 64 * MiB, `${windowBytes} bytes`)
})
