import { copyFile, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import type { ImageStatus } from '../../src/api/image.ts'
import { AppError } from '../../src/errors.ts'
import { prepareArea, withArea } from '../../src/storage/area.ts'
import { imageStatus, listFixes } from '../../src/storage/domain/reads.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { compare, identical, KiB, makeDisk, makeOld, MiB, sh } from '../helpers/images.ts'
import { crashSample } from '../helpers/crash-sample.ts'
import { killAtEachStep } from '../helpers/crash-steps.ts'
import { Empty } from '../helpers/empty.ts'
import { unlessRoot } from '../helpers/mount-space.ts'
import { copyJob, storageJobs } from '../helpers/storage-jobs.ts'
import { runUntilCall, type Call } from '../helpers/kill-at-call.ts'

// Every durable step of every storage work is a place to be killed at. All are tried of what everybody does; of what differs
// from that in a few of them, some, beginning with another one each time. CRASH_EVERY=1 takes them all (npm run torture does).

t.setTimeout(600_000)
const some = crashSample(t, 12)

const { argvOf, work } = await storageJobs(t)
const path = await temporaryDirectory(t)
const place = { id: 'local', path }
const at = (name: string) => join(path, name)
const host = { id: 'node1' }
await prepareArea(place, true)
// one window: a copy of several repeats the same steps
await makeDisk(at('source.raw'), MiB + 700, { blockBytes: 256 * KiB })
await makeDisk(at('old.raw'), MiB)

type Format = 'raw' | 'qcow2'
const copyTo = (image: string, format: Format, { verify = false, onExisting = 'refuse' as 'refuse' | 'replace' } = {}) => copyJob([place], {
  what: 'copy', source: { domain: 'local', image: 'source.raw', format: 'raw' }, target: { domain: 'local', image, format, allocation: 'sparse' }, verify, chain: 'flat', onExisting, ignoreSpace: false
})
const mend = (image: string) => copyJob([place], { what: 'mend', domain: 'local', image })
const create = (image: string, format: Format) => ({ what: 'create' as const, place, request: { image, format, virtualSize: MiB, allocation: 'sparse' as const, host, taskId: 'step' } })
const remove = (image: string) => ({ what: 'delete' as const, place, request: { image, host, taskId: 'step' } })

const status = async (image: string): Promise<ImageStatus | undefined> => await withArea(place, async area => await imageStatus(area, image, undefined)).catch((error: unknown) => {
  if (error instanceof AppError && error.code === 'image-not-found') return undefined
  throw error
})

/** Whatever of an image is on the storage besides its lease. */
async function traces (image: string): Promise<string[]> {
  const all = await readdir(path, { recursive: true })
  return all.filter(name => name.startsWith('.vdsm-tasks/parts/') || (name.includes(image) && !name.startsWith('.vdsm-tasks/leases/'))).sort()
}

const isSame = async (source: string, image: string, format: Format) => await compare({ path: at(source), format: 'raw' }, { path: at(image), format }) === identical
const isWhole = async (image: string, format: Format) => await isSame('source.raw', image, format)

/** After a copy was killed: absent, explained by fixes, or complete; then by its fix, or the same command, to the end. */
async function checkCopy (t: Test, image: string, format: Format, again: ReturnType<typeof copyJob>): Promise<string> {
  const found = await status(image)
  if (found === undefined) {
    t.same(await traces(image), [], 'absent without a trace')
    await work(again)
  } else if (found.state === 'ok') {
    t.ok(await isWhole(image, format), 'what is called ok is whole')
  } else {
    t.notOk((await readdir(path)).includes(image) && found.copy?.phase !== 'finishing', 'half a copy never has the name')
    const fixes = await withArea(place, listFixes)
    t.match(fixes, [{ image, state: found.state }])
    t.same(fixes[0]?.fixes, found.fixes)
    const [fix] = found.fixes
    if (fix?.action === 'mend') await work(mend(image))
    else {
      await work(remove(image))
      t.same(await traces(image), [])
      await work(again)
    }
  }
  const end = await status(image)
  t.match(end, { state: 'ok', fixes: Empty, copy: { phase: 'done' } })
  t.ok(await isWhole(image, format))
  t.same(await traces(image), [`.vdsm-tasks/copies/${image}.json`, image])
  t.match(JSON.parse(await readFile(at(`.vdsm-tasks/copies/${image}.json`), 'utf8')), { phase: 'done' })
  await work(remove(image))
  t.same(await traces(image), [])
  if (found === undefined) return 'absent'
  return found.copy === undefined ? 'abandoned' : found.state === 'ok' ? 'ok' : found.copy.phase
}

/** The call before which a copy has begun its windows, and no record counts one yet: the first two records accept it, the third names them. */
const begun: Call = { name: 'rename', number: 4 }

for (const format of ['raw', 'qcow2'] as const) {
  t.test(`a copy to ${format}`, async t => {
    const image = `step.${format}`
    const job = copyTo(image, format)
    await killAtEachStep(t, {
      argv: argvOf(job),
      check: async t => await checkCopy(t, image, format, job),
      order: ['absent', 'abandoned', 'creating', 'copying', 'finishing', 'ok']
    })
  })
}

t.test('a copy in the place of another image, which is whole until then, and whose owner, mode, ACL and attributes stay', async t => {
  const image = 'replaced.raw'
  const job = copyTo(image, 'raw', { onExisting: 'replace' })
  const list = '0x02000000' + '01000600ffffffff' + '02000600d2040000' + '04000000ffffffff' + '10000600ffffffff' + '20000000ffffffff'
  const ownership = async () => [
    await sh('stat', '-c', '%u:%g %a', at(image)),
    ...(await sh('getfattr', '--dump', '--match=-', '--encoding=hex', '--absolute-names', at(image))).split('\n').slice(1)
  ]
  let before: string[] = []
  await killAtEachStep(t, {
    prepare: async () => {
      await copyFile(at('old.raw'), at(image))
      if (!unlessRoot) await sh('chown', '1234:2345', at(image))
      await sh('setfattr', '-n', 'user.note', '-v', 'mine', at(image))
      await sh('setfattr', '-n', 'system.posix_acl_access', '-v', list, at(image))
      await makeOld(at(image))
      before = await ownership()
      t.equal(before.filter(line => line !== '').length, 3)
    },
    argv: argvOf(job),
    order: ['old', 'old creating', 'old copying', 'old finishing', 'new finishing', 'new done'],
    check: async t => {
      const found = await status(image)
      t.strictSame(await ownership(), before, 'whichever it is')
      const isNew = await isWhole(image, 'raw')
      t.ok(isNew || await isSame('old.raw', image, 'raw'), 'it is the one or the other')
      if (isNew) t.match(found?.copy?.phase, /^(finishing|done)$/)
      else t.match(found, { state: /^(ok|illegal)$/ })
      const [fix] = found?.fixes ?? []
      if (fix?.action === 'mend') await work(mend(image))
      else if (fix !== undefined) {
        await work(remove(image))
        t.ok(await isSame('old.raw', image, 'raw'), 'what is cleaned is the copy')
      }
      if (fix?.action !== 'mend') await work(job)
      t.ok(await isWhole(image, 'raw'))
      t.strictSame(await ownership(), before)
      t.match(await status(image), { state: 'ok', fixes: Empty, copy: { phase: 'done' } })
      await work(remove(image))
      // of a part that was only tried something may be left, which is swept in time
      for (const name of await readdir(at('.vdsm-tasks/parts'))) await rm(at(`.vdsm-tasks/parts/${name}`))
      t.strictSame(await traces(image), [])
      return [isNew ? 'new' : 'old', found?.copy?.phase ?? ''].join(' ').trim()
    }
  })
})

t.test('mending a copy that was killed before and is to be verified', async t => {
  const copy = copyTo('mend.raw', 'raw', { verify: true })
  await killAtEachStep(t, {
    prepare: async () => { t.equal(await runUntilCall(argvOf(copy), begun), 'SIGKILL') },
    argv: argvOf(mend('mend.raw')),
    check: async t => await checkCopy(t, 'mend.raw', 'raw', copy),
    order: ['copying', 'finishing', 'ok'],
    steps: some
  })
})

t.test('mending a copy that has lost its part', async t => {
  const copy = copyTo('lost.raw', 'raw')
  await killAtEachStep(t, {
    prepare: async () => {
      t.equal(await runUntilCall(argvOf(copy), begun), 'SIGKILL')
      for (const name of await readdir(at('.vdsm-tasks/parts'))) await rm(at(`.vdsm-tasks/parts/${name}`))
    },
    argv: argvOf(mend('lost.raw')),
    check: async t => await checkCopy(t, 'lost.raw', 'raw', copy),
    order: ['copying', 'creating', 'copying'],
    // the steps until it is a copy like any other
    steps: calls => some(calls.slice(0, 10))
  })
})

t.test('a creation', async t => {
  const image = 'made.qcow2'
  const plain = create(image, 'qcow2')
  const job = { ...plain, request: { ...plain.request, clusterSize: 4096 } }
  await killAtEachStep(t, {
    argv: argvOf(job),
    order: ['illegal', 'ok'],
    check: async (t, index) => {
      const found = await status(image)
      if (found === undefined) t.strictSame(await traces(image), [])
      else if (found.state !== 'ok') {
        t.equal(found.state, 'illegal')
        // both ways out lead out: clean it, or create it again
        const isCleaned = found.fixes[0]?.action === 'clean'
        if (!isCleaned) t.match(found.fixes, [{ action: 'mend', task: { kind: 'storage.createImage', image, format: 'qcow2', virtualSize: MiB, clusterSize: 4096 } }, { action: 'clean' }])
        if (isCleaned || index % 2 === 0) {
          await work(remove(image))
          t.strictSame(await traces(image), [], 'cleaned')
        }
      }
      if (found?.state !== 'ok') await work(job)
      t.match(await status(image), { state: 'ok', virtualSize: MiB, fixes: Empty })
      t.strictSame(await traces(image), [image])
      await work(remove(image))
      t.strictSame(await traces(image), [])
      return found?.state ?? 'absent'
    }
  })
})

for (const [what, image, prepare, before] of [
  ['an image', 'plain.raw', async () => { await work(create('plain.raw', 'raw')) }, 'ok'],
  ['a complete copy', 'whole.raw', async () => { await work(copyTo('whole.raw', 'raw')) }, 'ok'],
  ['an interrupted copy', 'torn.raw', async () => { t.equal(await runUntilCall(argvOf(copyTo('torn.raw', 'raw')), begun), 'SIGKILL') }, 'interrupted']
] as const) {
  t.test(`a deletion of ${what}`, async t => {
    await killAtEachStep(t, {
      prepare,
      argv: argvOf(remove(image)),
      order: [before, 'illegal', 'absent'],
      check: async t => {
        const found = await status(image)
        if (found?.state === 'illegal') {
          t.match(found.fixes, [{ action: 'clean', task: { kind: 'storage.deleteImage', image } }])
          t.match(await withArea(place, listFixes), [{ image }])
        }
        if (found !== undefined) await work(remove(image))
        t.strictSame(await traces(image), [])
        return found?.state ?? 'absent'
      }
    })
  })
}
