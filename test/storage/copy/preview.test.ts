import { execFile } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { openArea, prepareArea } from '../../../src/storage/area.ts'
import { takeLease } from '../../../src/storage/lease.ts'
import { openersOf } from '../../../src/system/openers.ts'
import { temporaryDirectory } from '../../helpers/directory.ts'
import { makeDisk, MiB } from '../../helpers/images.ts'
import { needs } from '../../helpers/needs.ts'
import { copyJob, rawCopy, storageJobs } from '../../helpers/storage-jobs.ts'
import { until } from '../../helpers/processes.ts'

needs('qemu-img')

t.setTimeout(300_000)

const { argvOf } = await storageJobs(t)
const path = await temporaryDirectory(t)
await prepareArea({ id: 'local', path }, true)
await makeDisk(join(path, 'source.raw'), MiB)
const { job } = copyJob([{ id: 'local', path }], rawCopy, { clone: false })

async function preview (): Promise<unknown> {
  const [program = '', ...args] = argvOf({ what: 'preview', job })
  const { stdout } = await promisify(execFile)(program, args).catch((error: unknown) => error as { stdout: string })
  return JSON.parse(stdout)
}

t.test('a preview makes no lease, and sees those that others have', async t => {
  t.match(await preview(), { outcome: 'copy' })
  t.strictSame(await readdir(join(path, '.vdsm-tasks/leases')), [])
  const area = await openArea({ id: 'local', path })
  t.teardown(async () => { await area.close() })
  for (const [image, mode, words] of [
    ['target.raw', 'exclusive', /Image target.raw .* is in use/],
    ['target.raw', 'shared', /Image target.raw .* is in use/],
    ['source.raw', 'exclusive', /The source source.raw .* is being written or deleted/]
  ] as const) {
    const lease = await takeLease(area.leases, image, mode)
    t.match(await preview(), { code: 'resource-busy', message: words }, `${image} ${mode}`)
    await lease?.release()
  }
  const reader = await takeLease(area.leases, 'source.raw', 'shared')
  t.match(await preview(), { outcome: 'copy' }, 'two readers')
  await reader?.release()
})

t.test('a process that is marked as a preview is no opener, and neither is what it runs', async t => {
  const file = join(path, 'source.raw')
  const fd = openSync(file, 'r')
  t.teardown(() => { closeSync(fd) })
  const module = new URL('../../../src/system/openers.ts', import.meta.url).href
  const script = (mark: string) => `
    const { markAsPreview } = await import(${JSON.stringify(module)})
    const { openSync } = await import('node:fs')
    const { spawn } = await import('node:child_process')
    ${mark}
    const fd = openSync(${JSON.stringify(file)}, 'r')
    const child = spawn('sleep', ['1000'], { stdio: ['ignore', 'ignore', 'ignore', fd] })
    process.on('SIGTERM', () => { child.kill(); process.exit() })
    console.log('open')
    setInterval(() => {}, 60_000)`
  for (const [mark, count] of [['', 2], ['markAsPreview()', 0]] as const) {
    const child = execFile(process.execPath, [...process.execArgv, '--input-type=module', '-e', script(mark)])
    t.teardown(() => { child.kill() })
    await new Promise(resolve => { child.stdout?.once('data', resolve) })
    t.equal((await openersOf(fd, 'source.raw')).length, count)
    child.kill()
    await until(async () => (await openersOf(fd, 'source.raw')).length === 0)
  }
})
