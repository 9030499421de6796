import { link, mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import type { BrokenImage, ImageStatus } from '../../src/api/image.ts'
import { AppError } from '../../src/errors.ts'
import { withArea, type DomainPlace } from '../../src/storage/area.ts'
import { layouts } from '../../src/storage/domain/layouts.ts'
import { crashSample } from '../helpers/crash-sample.ts'
import { killAtEachStep } from '../helpers/crash-steps.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { Empty } from '../helpers/empty.ts'
import { compare, identical, KiB, makeDisk, MiB, sha256 } from '../helpers/images.ts'
import { fillQcow2, makeOvirtDomain, putVolume, readMeta, uuid } from '../helpers/ovirt.ts'
import { copyJob, storageJobs } from '../helpers/storage-jobs.ts'
import { callsOf, runUntilCall } from '../helpers/kill-at-call.ts'

// Like ovirt-crash-steps.test.ts, for a chain that is kept, over a template: killed at every durable step, what is left is one
// interrupted copy whose fix leads to the end, or to nothing. All steps are tried of a chain of two volumes; of the longer one
// over a template, some.

t.setTimeout(600_000)
const some = crashSample(t, 40)

const { argvOf, work } = await storageJobs(t)
const root = await temporaryDirectory(t)
const [domain, source] = [uuid('domain'), uuid('source domain')]
const place: DomainPlace = { id: domain, path: await makeOvirtDomain(root, domain), layout: 'ovirt' }
const from: DomainPlace = { id: source, path: await makeOvirtDomain(root, source), layout: 'ovirt' }
for (const one of [place, from]) await withArea(one, async () => {})
const host = { id: 'node1' }

const [template, image] = [uuid('template'), uuid('disk')]
const volumes = ['base', 'middle', 'top'].map(uuid) as [string, string, string]
const [base, middle, top] = volumes
const file = ({ path }: DomainPlace, image: string, volume: string) => join(path, 'images', image, volume)
const shape = { CAP: MiB, FORMAT: 'COW' }
await putVolume(from.path, source, template, base, async file => { await makeDisk(file, MiB, { blockBytes: 128 * KiB }) }, { CAP: MiB, VOLTYPE: 'SHARED' })
await mkdir(join(from.path, 'images', image))
for (const suffix of ['', '.meta', '.lease']) await link(`${file(from, template, base)}${suffix}`, `${file(from, image, base)}${suffix}`)
await putVolume(from.path, source, image, middle, async file => { await fillQcow2(file, MiB, { volume: base, format: 'raw' }, [[0, 65536, 1], [131072, 65536, 0]]) }, { ...shape, PUUID: base, VOLTYPE: 'INTERNAL' })
await putVolume(from.path, source, image, top, async file => { await fillQcow2(file, MiB, { volume: middle, format: 'qcow2' }, [[65536, 65536, 2]]) }, { ...shape, PUUID: middle })

// another chain, of two volumes
const pair = uuid('pair')
const [lower, upper] = [uuid('lower'), uuid('upper')]
await putVolume(from.path, source, pair, lower, async file => { await makeDisk(file, MiB, { blockBytes: 256 * KiB }) }, { CAP: MiB, VOLTYPE: 'INTERNAL' })
await putVolume(from.path, source, pair, upper, async file => { await fillQcow2(file, MiB, { volume: lower, format: 'raw' }, [[65536, 65536, 2]]) }, { ...shape, PUUID: lower })

const { ovirt } = layouts
const places = [place, from]
const keepOf = (image: string) => copyJob(places, {
  what: 'copy', source: { domain: source, image }, target: { domain, image, allocation: 'sparse' }, chain: 'keep', verify: false, onExisting: 'refuse', ignoreSpace: false
})
const keep = keepOf(image)
const removeImage = (image: string) => ({ what: 'delete', place, request: { image, host, taskId: 'step' } }) as const
const status = async (image: string): Promise<ImageStatus | undefined> => await withArea(place, async area => await ovirt.image(area, image, undefined)).catch((error: unknown) => {
  if (error instanceof AppError && error.code === 'image-not-found') return undefined
  throw error
})
const fixes = async (): Promise<BrokenImage[]> => await withArea(place, async area => await ovirt.fixes(area))

/** Does what a fix says. */
async function follow (action: 'mend' | 'clean', broken: BrokenImage): Promise<void> {
  const task = broken.fixes.find(fix => fix.action === action)?.task
  if (task?.kind === 'storage.mendImage') await work(copyJob(places, { what: 'mend', domain, image: task.image, volume: task.volume }))
  else if (task?.kind === 'storage.deleteImage') await work({ what: 'delete', place, request: { image: task.image, volume: task.volume, host, taskId: 'step' } })
  else throw new Error(`no ${action} among ${JSON.stringify(broken)}`)
}

const removeAll = async () => { for (const one of [image, template]) if (await status(one) !== undefined) await work(removeImage(one)) }

/** Whatever there is besides leases. */
async function traces (): Promise<string[]> {
  return [...await readdir(join(place.path, 'images'), { recursive: true }), ...await readdir(join(place.path, '.vdsm-tasks/copies')), ...await readdir(join(place.path, '.vdsm-tasks/parts'))].sort()
}
const filesOf = (image: string, volume: string) => ['', '.lease', '.meta'].map(suffix => `${image}/${volume}${suffix}`)
const whole = [template, image, ...filesOf(template, base), ...volumes.flatMap(volume => filesOf(image, volume)), `${template}.${base}.json`, ...[middle, top].map(volume => `${image}.${volume}.json`)].sort()

async function isKept (t: Test): Promise<void> {
  for (const volume of volumes) {
    const format = volume === base ? 'raw' as const : 'qcow2' as const
    t.equal(await compare({ path: file(from, image, volume), format }, { path: file(place, image, volume), format }), identical)
    t.equal(await sha256(file(place, image, volume)), await sha256(file(from, image, volume)))
    t.match(await readMeta(`${file(place, image, volume)}.meta`), { LEGALITY: 'LEGAL', GEN: '1', IMAGE: volume === base ? template : image })
  }
  t.same(await traces(), whole)
  t.same(await fixes(), [])
  t.match(await status(image), { state: 'ok', copy: undefined })
}

const phaseOf = (found: ImageStatus | undefined) => found?.copy?.phase ?? (found?.state === 'ok' ? 'ok' : found?.state ?? 'absent')

/** The one broken image that there may be. */
async function brokenOne (t: Test): Promise<{ broken: BrokenImage | undefined, actions: string | undefined }> {
  const [broken, ...others] = await fixes()
  t.strictSame(others, [])
  return { broken, actions: broken?.fixes.map(({ action }) => action).join() }
}

t.test('a copy of a chain of two volumes, continued or removed', async t => {
  const whole = [pair, ...filesOf(pair, lower), ...filesOf(pair, upper), ...[lower, upper].map(volume => `${pair}.${volume}.json`)].sort()
  await killAtEachStep(t, {
    argv: argvOf(keepOf(pair)),
    order: ['absent', 'illegal', 'creating', 'copying', 'finishing', 'ok'],
    check: async (t, index) => {
      const phase = phaseOf(await status(pair))
      const { broken, actions } = await brokenOne(t)
      if (broken !== undefined && (actions === 'clean' || (actions === 'mend,clean' && index % 3 === 0))) {
        await follow('clean', broken)
        t.equal(await status(pair), undefined, 'nothing of the image is left')
        t.strictSame(await traces(), [])
      } else if (broken !== undefined) {
        t.match(broken, { image: pair, volume: upper })
        await follow('mend', broken)
      }
      if (await status(pair) === undefined) await work(keepOf(pair))
      for (const [volume, format] of [[lower, 'raw'], [upper, 'qcow2']] as const) {
        t.equal(await compare({ path: file(from, pair, volume), format }, { path: file(place, pair, volume), format }), identical)
        t.match(await readMeta(`${file(place, pair, volume)}.meta`), { LEGALITY: 'LEGAL', GEN: '1', VOLTYPE: volume === upper ? 'LEAF' : 'INTERNAL' })
      }
      t.strictSame(await traces(), whole)
      t.match(await status(pair), { state: 'ok', fixes: Empty })
      await work(removeImage(pair))
      t.strictSame(await traces(), [])
      return phase
    }
  })
})

t.test('a copy of a chain over a template, continued or removed', async t => {
  await killAtEachStep(t, {
    argv: argvOf(keep),
    order: ['absent', 'illegal', 'creating', 'copying', 'finishing', 'ok'],
    steps: some,
    check: async (t, index) => {
      const found = await status(image)
      const phase = phaseOf(found)
      const { broken, actions } = await brokenOne(t)
      // of a volume that is LEGAL and whole, the removal is not offered
      if (broken !== undefined && /when the volume was complete/.test(broken.detail)) t.match([phase, actions], ['finishing', 'mend'])
      if (broken === undefined) t.ok(found === undefined || found.state === 'ok')
      else if (actions === 'mend' || (actions === 'mend,clean' && index % 3 !== 0)) {
        t.match(broken, { image, volume: top })
        t.not((await readMeta(`${file(place, image, top)}.meta`).catch(() => undefined))?.['LEGALITY'], phase === 'finishing' ? 'none' : 'LEGAL')
        await follow('mend', broken)
        await isKept(t)
      } else {
        await follow('clean', broken)
        t.equal(await status(image), undefined, 'nothing of the image is left')
        // the template is an image of its own, and may be whole
        for (const rest of await fixes()) await follow(rest.fixes.some(({ action }) => action === 'clean') ? 'clean' : 'mend', rest)
        t.match((await status(template))?.state ?? 'ok', 'ok')
        t.strictSame(await fixes(), [])
        await removeAll()
        t.strictSame(await traces(), [])
      }
      await work(keep)
      await isKept(t)
      await removeAll()
      t.strictSame(await traces(), [])
      return phase
    }
  })
})

t.test('the removal of an unfinished chain', async t => {
  // in the middle: the template is whole and linked, the top is not begun
  const last = (await callsOf(argvOf(keep))).filter(({ name }) => name === 'link').at(-1)
  if (last === undefined) throw new Error('no template was linked')
  await killAtEachStep(t, {
    prepare: async () => {
      if ((await fixes()).length > 0) return
      await removeAll()
      t.equal(await runUntilCall(argvOf(keep), last), 'SIGKILL')
    },
    argv: argvOf({ what: 'delete', place, request: { image, volume: top, host, taskId: 'step' } }),
    order: ['interrupted', 'illegal', 'absent'],
    steps: some,
    check: async t => {
      const found = await status(image)
      const { broken } = await brokenOne(t)
      if (broken !== undefined) await follow('clean', broken)
      t.equal(await status(image), undefined)
      t.match(await status(template), { state: 'ok' })
      t.strictSame(await traces(), [template, ...filesOf(template, base), `${template}.${base}.json`].sort())
      await removeAll()
      return found?.state ?? 'absent'
    }
  })
})
