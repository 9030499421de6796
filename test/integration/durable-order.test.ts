import { join } from 'node:path'
import t, { type Test } from 'tap'
import { prepareArea, type DomainPlace } from '../../src/storage/area.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { copy, finalName, holdTo, inRaw, names, next, part } from '../helpers/durable-order.ts'
import { KiB, makeDisk, MiB } from '../helpers/images.ts'
import type { Rule } from '../helpers/order-rules.ts'
import type { StorageJob } from '../helpers/storage-change.ts'
import { copyJob, storageJobs } from '../helpers/storage-jobs.ts'
import { runUntilCall } from '../helpers/kill-at-call.ts'

// Every piece of storage work is done for real under strace, and the order of its steps is held against rules. A flush that
// is missing, or comes too early, is what a kill cannot show: the page cache survives it.

t.setTimeout(300_000)

const { argvOf, work } = await storageJobs(t)
const path = await temporaryDirectory(t)
const local: DomainPlace = { id: 'local', path }
await prepareArea(local, true)
const host = { id: 'node1' }
for (const name of ['source.raw', 'other.raw']) await makeDisk(join(path, name), 3 * MiB + 700, { blockBytes: 512 * KiB })

// windows of one MiB, so that there are several
const settings = { bandwidth: 20 * MiB, windowSeconds: 0.05, clone: false, directIo: false }
const toLocal = (format: 'raw' | 'qcow2', { replace = false, directIo = false } = {}) => copyJob([local], {
  what: 'copy',
  source: { domain: 'local', image: replace ? 'other.raw' : 'source.raw', format: 'raw' },
  target: { domain: 'local', image: `target.${format}`, format, allocation: 'sparse' },
  verify: false,
  chain: 'flat',
  onExisting: replace ? 'replace' : 'refuse',
  ignoreSpace: false
}, { ...settings, directIo })
const remove = (image: string) => ({ what: 'delete', place: local, request: { image, host, taskId: 'step' } }) as const

type Rules = Readonly<Record<string, Rule>>
async function check (t: Test, title: string, job: StorageJob, ...rules: readonly Rules[]): Promise<void> {
  await t.test(title, async t => { await holdTo(t, argvOf(job), path, ...rules) })
}

const moved: Rules = {
  'a name that was taken away is durable before the next step': { each: 'rename (parts)/data -> root/.*', then: 'fsync {1}', until: next }
}
const taken: Rules = {
  'the record says who goes on before anything is copied': { each: 'window', after: 'record \\S+ copying', is: (_, { record }) => record?.epoch === 2 }
}

t.test('in a directory', async t => {
  for (const format of ['raw', 'qcow2'] as const) {
    await check(t, `a copy to ${format}`, toLocal(format), names, copy, part, finalName, format === 'raw' ? inRaw : {})
    await check(t, `a copy to ${format} in the place of another`, toLocal(format, { replace: true }), { ...names, ...moved }, copy, part, finalName)
    await work(remove(`target.${format}`))
    // two records for the accept step, one that names windows, and then one that would count them
    t.equal(await runUntilCall(argvOf(toLocal(format)), { name: 'rename', number: 4 }), 'SIGKILL')
    await check(t, `the mending of a copy to ${format}`, copyJob([local], { what: 'mend', domain: 'local', image: `target.${format}` }, settings), names, copy, finalName, taken)
    await check(t, `the deletion of a copy in ${format}`, remove(`target.${format}`), names, {
      'the intent is durable before the image goes': { each: 'unlink root/target.*', after: 'record \\S+ deleting' },
      'the record goes when the image is gone': { each: 'unlink copies/\\S+\\.json', after: 'fsync root', since: 'unlink root/.*' }
    })
  }

  await check(t, 'a copy past the page cache', toLocal('raw', { directIo: true }), names, copy, part, finalName)
  await work(remove('target.raw'))

  await check(t, 'a creation', { what: 'create', place: local, request: { image: 'made.qcow2', format: 'qcow2', virtualSize: MiB, allocation: 'sparse', host, taskId: 'step' } }, names, part, {
    'the record knows the inode of the image before that gets its name': { each: 'link parts/data -> root/.*', after: 'record \\S+ finishing', is: (_, { record }) => record?.inode !== undefined },
    'the record goes when the image has its name, and nothing else is left': { each: 'unlink copies/\\S+\\.json', after: 'fsync parts', since: 'unlink parts/data' }
  })
})
