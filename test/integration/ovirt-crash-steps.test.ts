import { readdir, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import type { ImageStatus } from '../../src/api/image.ts'
import { AppError } from '../../src/errors.ts'
import { prepareArea, withArea, type DomainPlace } from '../../src/storage/area.ts'
import { layouts } from '../../src/storage/domain/layouts.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { compare, identical, KiB, makeDisk, MiB } from '../helpers/images.ts'
import { makeOvirtDomain, putVolume, readMeta, uuid } from '../helpers/ovirt.ts'
import { crashSample } from '../helpers/crash-sample.ts'
import { Empty } from '../helpers/empty.ts'
import type { StorageJob } from '../helpers/storage-change.ts'
import { copyJob, storageJobs } from '../helpers/storage-jobs.ts'
import { callsOf, runUntilCall } from '../helpers/strace.ts'

// The same as crash-steps.test.ts, for volumes of an oVirt domain: killed at every durable step, what is left is told
// truthfully by its state and its .meta, and the fix leads to the end. CRASH_EVERY=1 takes every step.

const { every, random } = crashSample(t, 36)

const { argvOf, work } = await storageJobs(t)
const root = await temporaryDirectory(t)
const domain = uuid('domain')
const place: DomainPlace = { id: domain, path: await makeOvirtDomain(root, domain), layout: 'ovirt' }
const sources: DomainPlace = { id: 'local', path: join(root, 'local') }
const host = { id: 'node1' }
await prepareArea(sources, true)
// our own directories are made when a domain is opened for the first time
await withArea(place, async () => {})
const sourcePath = join(sources.path, 'source.raw')
await makeDisk(sourcePath, 3 * MiB + 700, { blockBytes: 512 * KiB })

const { ovirt } = layouts
const named = { image: uuid('disk'), volume: uuid('volume') }
const file = join(place.path, 'images', named.image, named.volume)
const places = [place, sources]
const copyTo = (format: 'raw' | 'qcow2', more: { generation?: number } = {}) => copyJob(places, {
  what: 'copy', source: { domain: 'local', image: 'source.raw', format: 'raw' }, target: { domain, ...named, format, allocation: 'sparse', ...more }, verify: false, chain: 'flat', onExisting: 'refuse', ignoreSpace: false
})
const mend = copyJob(places, { what: 'mend', domain, ...named })
const create = { what: 'create', place, request: { ...named, format: 'qcow2', virtualSize: MiB, allocation: 'sparse', host, taskId: 'step' } } as const
const remove = { what: 'delete', place, request: { ...named, host, taskId: 'step' } } as const
const status = async (): Promise<ImageStatus | undefined> => await withArea(place, async area => await ovirt.image(area, named.image, undefined)).catch((error: unknown) => {
  if (error instanceof AppError && error.code === 'image-not-found') return undefined
  throw error
})
const fixes = async () => await withArea(place, async area => await ovirt.fixes(area))
const isWhole = async (format: 'raw' | 'qcow2') => await compare({ path: sourcePath, format: 'raw' }, { path: file, format }) === identical

/** Whatever there is besides leases. */
async function traces (): Promise<string[]> {
  return [...await readdir(join(place.path, 'images'), { recursive: true }), ...await readdir(join(place.path, '.vdsm-tasks/copies')), ...await readdir(join(place.path, '.vdsm-tasks/parts'))].sort()
}
const whole = [named.image, ...['', '.lease', '.meta'].map(suffix => `${named.image}/${named.volume}${suffix}`)]

async function killAtEachStep (t: Test, prepare: () => Promise<void>, job: StorageJob, check: (t: Test) => Promise<string>, order: string[]): Promise<void> {
  await prepare()
  const calls = await callsOf(argvOf(job))
  await check(t)
  const first = Math.floor(random() * Math.min(every, calls.length))
  const found: string[] = []
  for (const call of calls.filter((_, index) => index % every === first)) {
    await prepare()
    const signal = await runUntilCall(argvOf(job), call)
    // flushes follow the clock: another run may have had fewer of them, and has ended
    if (call.name !== 'fdatasync') t.equal(signal, 'SIGKILL', `hit ${call.name} ${call.number}`)
    found.push(await check(t))
  }
  const words = found.filter((word, index) => word !== found[index - 1])
  const rest = [...order]
  if (every === 1) t.same(words, order)
  // a step never leads back
  else t.ok(words.every(word => { while (rest.length > 0) if (rest.shift() === word) return true; return false }), `${words.join()} among ${order.join()}`)
}

/** After a copy was killed: absent, explained by a fix, or complete; then by the fix to the end. */
const checkCopy = (format: 'raw' | 'qcow2', again: StorageJob, generation = '1') => async (t: Test): Promise<string> => {
  const found = await status()
  const phase = found?.copy?.phase ?? (found?.state === 'ok' ? 'ok' : found?.state ?? 'absent')
  const meta = await readMeta(`${file}.meta`).catch(() => undefined)
  if (found === undefined) await work(again)
  else if (found.state === 'ok' && found.volumes?.[0]?.copy === undefined) {
    t.equal(meta?.['LEGALITY'], 'LEGAL')
    await work(again)
  } else if (found.state !== 'ok') {
    const [broken, ...others] = await fixes()
    t.same(others, [])
    t.match(broken, { image: named.image, volume: named.volume, state: found.state })
    const [fix] = found.fixes
    if (phase === 'copying') t.equal(meta?.['LEGALITY'], 'ILLEGAL', 'what is being written is ILLEGAL')
    if (fix?.action === 'mend') await work(mend)
    else {
      await work(remove)
      t.same(await traces(), [])
      await work(again)
    }
  }
  t.match(await status(), { state: 'ok', fixes: Empty })
  t.ok(await isWhole(format))
  t.match(await readMeta(`${file}.meta`), { LEGALITY: 'LEGAL', GEN: generation })
  t.same(await traces(), [...whole, `${named.image}.${named.volume}.json`].sort())
  await work(remove)
  t.same(await traces(), [])
  return phase
}

t.test('a copy that makes its volume', async t => {
  await killAtEachStep(t, async () => {}, copyTo('qcow2'), checkCopy('qcow2', copyTo('qcow2')), ['absent', 'illegal', 'creating', 'copying', 'finishing', 'ok'])
})

t.test('a copy into a volume that is there', async t => {
  const job = copyTo('raw', { generation: 7 })
  const given = async () => { await putVolume(place.path, domain, named.image, named.volume, async file => { await writeFile(file, ''); await truncate(file, 4 * MiB) }, { CAP: 4 * MiB }) }
  const check = checkCopy('raw', job, '8')
  await killAtEachStep(t, given, job, async t => {
    // a step so early that nothing was begun leaves the volume as it was given
    const before = await status()
    if (before?.state === 'illegal') {
      t.match(before.fixes, [{ action: 'clean' }], 'an unfinished write of a record is all there is')
      await work(remove)
      await given()
    }
    const word = await check(t)
    return before?.state === 'illegal' ? 'illegal' : before?.state === 'ok' && before.volumes?.[0]?.copy === undefined ? 'given' : word
  }, ['given', 'creating', 'copying', 'finishing', 'ok'])
})

t.test('mending a copy, also one that has lost its data', async t => {
  // three records and the metadata accept it, one more names its windows
  const torn = async () => { t.equal(await runUntilCall(argvOf(copyTo('raw')), { name: 'rename', number: 6 }), 'SIGKILL') }
  await killAtEachStep(t, async () => { await torn(); await rm(file) }, mend, checkCopy('raw', copyTo('raw')), ['copying', 'creating', 'copying', 'finishing', 'ok'])
})

t.test('a creation', async t => {
  await killAtEachStep(t, async () => {}, create, async t => {
    const found = await status()
    if (found !== undefined && found.state !== 'ok') {
      t.equal(found.state, 'illegal')
      if (found.fixes[0]?.action === 'clean') await work(remove)
    }
    if (found?.state !== 'ok') await work(create)
    t.match(await status(), { state: 'ok', virtualSize: MiB, fixes: Empty })
    t.match(await readMeta(`${file}.meta`), { LEGALITY: 'LEGAL', GEN: '0', FORMAT: 'COW' })
    t.same(await traces(), whole)
    await work(remove)
    t.same(await traces(), [])
    return found?.state ?? 'absent'
  }, ['illegal', 'ok'])
})

t.test('a deletion, of a volume and of an image', async t => {
  for (const job of [remove, { ...remove, request: { image: named.image, host, taskId: 'step' } }]) {
    await killAtEachStep(t, async () => { await work(create) }, job, async t => {
      const found = await status()
      if (found?.state === 'illegal') {
        t.match(found.fixes[0], { action: 'clean', task: { kind: 'storage.deleteImage', image: named.image } })
        t.equal((await fixes()).length, 1)
        const request = found.fixes[0]?.task
        if (request?.kind === 'storage.deleteImage') await work({ ...remove, request: { image: request.image, volume: request.volume, host, taskId: 'step' } })
      } else if (found !== undefined) {
        await work(job)
      }
      t.same(await traces(), [])
      return found?.state ?? 'absent'
    }, ['ok', 'illegal', 'absent'])
  }
})
