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
import { killAtEachStep } from '../helpers/crash-steps.ts'
import { Empty } from '../helpers/empty.ts'
import type { StorageJob } from '../helpers/storage-change.ts'
import { copyJob, storageJobs } from '../helpers/storage-jobs.ts'
import { runUntilCall } from '../helpers/kill-at-call.ts'

// The same as crash-steps.test.ts, for volumes of an oVirt domain: killed at every durable step, what is left is told
// truthfully by its state and its .meta, and the fix leads to the end.

t.setTimeout(600_000)
const some = crashSample(t, 24)

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
// one window: a copy of several repeats the same steps
await makeDisk(sourcePath, MiB + 700, { blockBytes: 256 * KiB })

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
  await killAtEachStep(t, {
    argv: argvOf(copyTo('qcow2')),
    check: checkCopy('qcow2', copyTo('qcow2')),
    order: ['absent', 'illegal', 'creating', 'copying', 'finishing', 'ok']
  })
})

t.test('a copy into a volume that is there', async t => {
  const job = copyTo('raw', { generation: 7 })
  const fill = async (file: string) => { await writeFile(file, ''); await truncate(file, 4 * MiB) }
  const prepare = async () => { await putVolume(place.path, domain, named.image, named.volume, fill, { CAP: 4 * MiB }) }
  const check = checkCopy('raw', job, '8')
  await killAtEachStep(t, {
    prepare,
    argv: argvOf(job),
    order: ['given', 'creating', 'copying', 'finishing', 'ok'],
    steps: some,
    check: async t => {
      // a step so early that nothing was begun leaves the volume as it was given
      const before = await status()
      if (before?.state === 'illegal') {
        t.match(before.fixes, [{ action: 'clean' }], 'an unfinished write of a record is all there is')
        await work(remove)
        await prepare()
      }
      const word = await check(t)
      if (before?.state === 'illegal') return 'illegal'
      return before?.state === 'ok' && before.volumes?.[0]?.copy === undefined ? 'given' : word
    }
  })
})

t.test('mending a copy, also one that has lost its data', async t => {
  await killAtEachStep(t, {
    prepare: async () => {
      // three records and the metadata accept it, one more names its windows
      t.equal(await runUntilCall(argvOf(copyTo('raw')), { name: 'rename', number: 6 }), 'SIGKILL')
      await rm(file)
    },
    argv: argvOf(mend),
    check: checkCopy('raw', copyTo('raw')),
    order: ['copying', 'creating', 'copying', 'finishing', 'ok'],
    steps: some
  })
})

t.test('a creation', async t => {
  await killAtEachStep(t, {
    argv: argvOf(create),
    order: ['illegal', 'ok'],
    check: async t => {
      const found = await status()
      if (found !== undefined && found.state !== 'ok') {
        t.equal(found.state, 'illegal')
        if (found.fixes[0]?.action === 'clean') await work(remove)
      }
      if (found?.state !== 'ok') await work(create)
      t.match(await status(), { state: 'ok', virtualSize: MiB, fixes: Empty })
      t.match(await readMeta(`${file}.meta`), { LEGALITY: 'LEGAL', GEN: '0', FORMAT: 'COW' })
      t.strictSame(await traces(), whole)
      await work(remove)
      t.strictSame(await traces(), [])
      return found?.state ?? 'absent'
    }
  })
})

for (const [what, job] of [['a volume', remove], ['an image', { ...remove, request: { image: named.image, host, taskId: 'step' } }]] as const) {
  t.test(`a deletion of ${what}`, async t => {
    await killAtEachStep(t, {
      prepare: async () => { await work(create) },
      argv: argvOf(job),
      order: ['ok', 'illegal', 'absent'],
      check: async t => {
        const found = await status()
        if (found?.state === 'illegal') {
          t.match(found.fixes[0], { action: 'clean', task: { kind: 'storage.deleteImage', image: named.image } })
          t.equal((await fixes()).length, 1)
          const request = found.fixes[0]?.task
          if (request?.kind === 'storage.deleteImage') await work({ ...remove, request: { image: request.image, volume: request.volume, host, taskId: 'step' } })
        } else if (found !== undefined) {
          await work(job)
        }
        t.strictSame(await traces(), [])
        return found?.state ?? 'absent'
      }
    })
  })
}
