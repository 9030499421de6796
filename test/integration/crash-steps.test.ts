import { readdir, readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import type { ImageStatus } from '../../src/api/image.ts'
import { AppError } from '../../src/errors.ts'
import { prepareArea, withArea } from '../../src/storage/area.ts'
import { imageStatus, listFixes } from '../../src/storage/domain/reads.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { compare, identical, KiB, makeDisk, MiB, sh } from '../helpers/images.ts'
import { crashSample } from '../helpers/crash-sample.ts'
import { Empty } from '../helpers/empty.ts'
import type { StorageJob } from '../helpers/storage-change.ts'
import { copyJob, storageJobs } from '../helpers/storage-jobs.ts'
import { unlessRoot } from '../helpers/mount-space.ts'
import { callsOf, runUntilCall, type Call } from '../helpers/strace.ts'

// Every durable step of every storage work is a place to be killed at. Being killed as one call begins is being killed
// right after the one before, so all calls in turn are all steps. CRASH_EVERY=1 takes them all (npm run torture does);
// otherwise it is every twenty-fourth, beginning with another one each time.

const { every, random } = crashSample(t, 24)

const { argvOf, work } = await storageJobs(t)
const path = await temporaryDirectory(t)
const place = { id: 'local', path }
const at = (name: string) => join(path, name)
const host = { id: 'node1' }
await prepareArea(place, true)
await makeDisk(at('source.raw'), 3 * MiB + 700, { blockBytes: 512 * KiB })

type Format = 'raw' | 'qcow2'
const copyTo = (image: string, format: Format, { verify = false } = {}) => copyJob([place], {
  what: 'copy', source: { domain: 'local', image: 'source.raw', format: 'raw' }, target: { domain: 'local', image, format, allocation: 'sparse' }, verify, chain: 'flat', onExisting: 'refuse', ignoreSpace: false
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

const isWhole = async (image: string, format: Format) => await compare({ path: at('source.raw'), format: 'raw' }, { path: at(image), format }) === identical

/**
 * Kills `job` before each of its calls in turn. `prepare` sets the scene, `check` looks at what is there and takes it to
 * the end; it returns a word for what it found, and the words must come in their order: a step never leads back.
 */
async function killAtEachStep (t: Test, { prepare, job, check, order }: { prepare: () => Promise<void>, job: StorageJob, check: (t: Test) => Promise<string>, order: string[] }): Promise<void> {
  await prepare()
  const calls: Call[] = await callsOf(argvOf(job))
  await check(t)
  t.ok(calls.length >= 3, `${calls.length} steps: ${calls.map(({ name }) => name).join(' ')}`)
  const found: string[] = []
  for (const call of some(calls)) {
    await prepare()
    const signal = await runUntilCall(argvOf(job), call)
    // flushes follow the clock, and another run may have had fewer of them: then it has ended
    if (call.name === 'fdatasync' && signal === null) {
      await check(t)
      continue
    }
    t.equal(signal, 'SIGKILL', `hit ${call.name} ${call.number}`)
    found.push(await check(t))
  }
  const words = found.filter((word, index) => word !== found[index - 1])
  t.same(words, every === 1 ? order : order.filter(word => words.includes(word)))
}

/** Those of the calls that this run is for. */
function some (calls: readonly Call[]): Call[] {
  const first = Math.floor(random() * Math.min(every, calls.length))
  return calls.filter((_, index) => index % every === first)
}

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

const nothing = async () => {}
/** The call before which a copy has begun its windows, and no record counts one yet: the first two records accept it, the third names them. */
const begun: Call = { name: 'rename', number: 4 }
t.test('a copy to raw', async t => {
  const job = copyTo('step.raw', 'raw')
  await killAtEachStep(t, { prepare: nothing, job, check: async t => await checkCopy(t, 'step.raw', 'raw', job), order: ['absent', 'abandoned', 'creating', 'copying', 'finishing', 'ok'] })
})

t.test('a copy that takes the place of an image which has an owner, a mode, an ACL and attributes', { skip: unlessRoot }, async t => {
  const image = 'replaced.raw'
  const copy = copyTo(image, 'raw')
  const job = { ...copy, job: { ...copy.job, request: { ...copy.job.request, onExisting: 'replace' as const } } }
  const list = '0x02000000' + '01000600ffffffff' + '02000600d2040000' + '04000000ffffffff' + '10000600ffffffff' + '20000000ffffffff'
  const ownership = async () => [
    await sh('stat', '-c', '%u:%g %a', at(image)),
    ...(await sh('getfattr', '--dump', '--match=-', '--encoding=hex', '--absolute-names', at(image))).split('\n').slice(1)
  ]
  let before: string[] = []
  await killAtEachStep(t, {
    prepare: async () => {
      await makeDisk(at(image), MiB, { blockBytes: 128 * KiB })
      await sh('chown', '1234:2345', at(image))
      await sh('setfattr', '-n', 'user.note', '-v', 'mine', at(image))
      await sh('setfattr', '-n', 'system.posix_acl_access', '-v', list, at(image))
      before = await ownership()
      t.equal(before.filter(line => line !== '').length, 3)
    },
    job,
    order: ['old', 'new'],
    check: async t => {
      const found = await status(image)
      t.strictSame(await ownership(), before, 'whichever it is')
      const isNew = await isWhole(image, 'raw')
      t.equal((await stat(at(image))).size, isNew ? 3 * MiB + 700 : MiB, 'the old one or the new one')
      // of a part that was only tried something may be left, which is swept in time
      if (found?.copy !== undefined && found.copy.phase !== 'done') {
        if (!isNew) t.match(found, { state: 'ok', fixes: [{ action: 'mend' }, { action: 'clean' }] })
        await work(mend(image))
      } else if (!isNew) await work(job)
      t.match(await status(image), { state: 'ok', fixes: Empty, copy: { phase: 'done' } })
      t.ok(await isWhole(image, 'raw'))
      t.strictSame(await ownership(), before)
      await work(remove(image))
      for (const name of await readdir(at('.vdsm-tasks/parts'))) await rm(at(`.vdsm-tasks/parts/${name}`))
      t.same(await traces(image), [])
      return isNew ? 'new' : 'old'
    }
  })
})

t.test('mending a copy that was killed before and is to be verified', async t => {
  const copy = copyTo('mend.raw', 'raw', { verify: true })
  await killAtEachStep(t, {
    prepare: async () => { t.equal(await runUntilCall(argvOf(copy), begun), 'SIGKILL') },
    job: mend('mend.raw'),
    check: async t => await checkCopy(t, 'mend.raw', 'raw', copy),
    order: ['copying', 'finishing', 'ok']
  })
})

t.test('mending a copy that has lost its part', async t => {
  const copy = copyTo('lost.raw', 'raw')
  const job = mend('lost.raw')
  const prepare = async () => {
    t.equal(await runUntilCall(argvOf(copy), begun), 'SIGKILL')
    for (const name of await readdir(at('.vdsm-tasks/parts'))) await rm(at(`.vdsm-tasks/parts/${name}`))
  }
  await prepare()
  // the steps until it is a copy like any other
  const calls = some((await callsOf(argvOf(job))).slice(0, 10))
  t.equal(await checkCopy(t, 'lost.raw', 'raw', copy), 'ok')
  for (const call of calls) {
    await prepare()
    t.equal(await runUntilCall(argvOf(job), call), 'SIGKILL', `hit ${call.name} ${call.number}`)
    t.match(await checkCopy(t, 'lost.raw', 'raw', copy), /^(creating|copying)$/)
  }
})

t.test('a creation', async t => {
  for (const [image, format] of [['made.qcow2', 'qcow2']] as const) {
    const plain = create(image, format)
    const job = { ...plain, request: { ...plain.request, clusterSize: 4096 } }
    await killAtEachStep(t, {
      prepare: nothing,
      job,
      order: ['illegal', 'ok'],
      check: async t => {
        const found = await status(image)
        if (found === undefined) t.same(await traces(image), [])
        else if (found.state !== 'ok') {
          t.equal(found.state, 'illegal')
          // both ways out lead out: clean it, or create it again; the second is what is done here unless only the first is offered
          if (found.fixes[0]?.action === 'clean') await work(remove(image))
          else t.match(found.fixes, [{ action: 'mend', task: { kind: 'storage.createImage', image, format, virtualSize: MiB, clusterSize: 4096 } }, { action: 'clean' }])
        }
        if (found?.state !== 'ok') await work(job)
        t.match(await status(image), { state: 'ok', virtualSize: MiB, fixes: Empty })
        t.same(await traces(image), [image])
        await work(remove(image))
        t.same(await traces(image), [])
        return found?.state ?? 'absent'
      }
    })
  }
})

t.test('cleaning up after a creation', async t => {
  const calls = some(await callsOf(argvOf(create('cleaned.raw', 'raw'))))
  await work(remove('cleaned.raw'))
  for (const call of calls) {
    t.equal(await runUntilCall(argvOf(create('cleaned.raw', 'raw')), call), 'SIGKILL')
    if ((await status('cleaned.raw')) === undefined) continue
    await work(remove('cleaned.raw'))
    t.same(await traces('cleaned.raw'), [], `before ${call.name} ${call.number}`)
  }
})

t.test('a deletion of an image, of a complete copy, and of an interrupted one', async t => {
  const scenes: Array<[image: string, prepare: () => Promise<void>, before: string]> = [
    ['plain.raw', async () => { await work(create('plain.raw', 'raw')) }, 'ok'],
    ['whole.raw', async () => { await work(copyTo('whole.raw', 'raw')) }, 'ok'],
    ['torn.raw', async () => { t.equal(await runUntilCall(argvOf(copyTo('torn.raw', 'raw')), begun), 'SIGKILL') }, 'interrupted']
  ]
  for (const [image, prepare, before] of scenes) {
    await killAtEachStep(t, {
      prepare,
      job: remove(image),
      order: [before, 'illegal', 'absent'],
      check: async t => {
        const found = await status(image)
        if (found?.state === 'illegal') {
          t.match(found.fixes, [{ action: 'clean', task: { kind: 'storage.deleteImage', image } }])
          t.match(await withArea(place, listFixes), [{ image }])
        }
        if (found !== undefined) await work(remove(image))
        t.same(await traces(image), [])
        return found?.state ?? 'absent'
      }
    })
  }
})
