import { link, mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import type { BrokenImage, ImageStatus } from '../../src/api/image.ts'
import { AppError } from '../../src/errors.ts'
import { withArea, type DomainPlace } from '../../src/storage/area.ts'
import { layouts } from '../../src/storage/domain/layouts.ts'
import { crashSample } from '../helpers/crash-sample.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { compare, identical, KiB, makeDisk, MiB, sha256 } from '../helpers/images.ts'
import { fillQcow2, makeOvirtDomain, putVolume, readMeta, uuid } from '../helpers/ovirt.ts'
import type { StorageJob } from '../helpers/storage-change.ts'
import { copyJob, storageJobs } from '../helpers/storage-jobs.ts'
import { callsOf, runUntilCall } from '../helpers/strace.ts'

// Like ovirt-crash-steps.test.ts, for a chain that is kept, over a template: killed at every durable step, what is left is one
// interrupted copy whose fix leads to the end, or to nothing.

const { every, random } = crashSample(t, 60)

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

const { ovirt } = layouts
const places = [place, from]
const keep = copyJob(places, { what: 'copy', source: { domain: source, image }, target: { domain, image, allocation: 'sparse' }, chain: 'keep', verify: false, onExisting: 'refuse', ignoreSpace: false })
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

const removeAll = async () => { for (const one of [image, template]) if (await status(one) !== undefined) await work({ what: 'delete', place, request: { image: one, host, taskId: 'step' } }) }

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

async function killAtEachStep (t: Test, prepare: () => Promise<void>, job: StorageJob, check: (t: Test, index: number) => Promise<string>, order: string[]): Promise<void> {
  await prepare()
  const calls = await callsOf(argvOf(job))
  await check(t, 0)
  const first = Math.floor(random() * Math.min(every, calls.length))
  t.comment(`${calls.length} steps`)
  const found: string[] = []
  for (const [index, call] of calls.entries()) {
    if (index % every !== first) continue
    await prepare()
    const signal = await runUntilCall(argvOf(job), call)
    // flushes follow the clock: another run may have had fewer of them, and has ended
    if (call.name !== 'fdatasync') t.equal(signal, 'SIGKILL', `hit ${call.name} ${call.number}`)
    found.push(await check(t, index))
  }
  const rest = [...order]
  t.ok(found.every(word => { while (rest.length > 0) if (rest[0] === word) return true; else rest.shift(); return false }), `${found.join()} in the order ${order.join()}`)
}

t.test('a copy of a chain, continued or removed', async t => {
  await killAtEachStep(t, async () => {}, keep, async (t, index) => {
    const found = await status(image)
    const phase = found?.copy?.phase ?? (found?.state === 'ok' ? 'ok' : found?.state ?? 'absent')
    const broken = await fixes()
    t.ok(broken.length <= 1, JSON.stringify(broken))
    const [one] = broken
    const actions = one?.fixes.map(({ action }) => action).join()
    // of a volume that is LEGAL and whole, the removal is not offered
    if (one !== undefined && /when the volume was complete/.test(one.detail)) t.match([phase, actions], ['finishing', 'mend'])
    if (one === undefined) t.ok(found === undefined || found.state === 'ok')
    else if (actions === 'mend' || (actions === 'mend,clean' && index % 3 !== 0)) {
      t.match(one, { image, volume: top })
      t.not((await readMeta(`${file(place, image, top)}.meta`).catch(() => undefined))?.['LEGALITY'], phase === 'finishing' ? 'none' : 'LEGAL')
      await follow('mend', one)
      await isKept(t)
    } else {
      await follow('clean', one)
      t.equal(await status(image), undefined, 'nothing of the image is left')
      // the template is an image of its own, and may be whole
      for (const rest of await fixes()) await follow(rest.fixes.some(({ action }) => action === 'clean') ? 'clean' : 'mend', rest)
      t.match((await status(template))?.state ?? 'ok', 'ok')
      t.same(await fixes(), [])
      await removeAll()
      t.same(await traces(), [])
    }
    await work(keep)
    await isKept(t)
    await removeAll()
    t.same(await traces(), [])
    return phase
  }, ['absent', 'illegal', 'creating', 'copying', 'finishing', 'ok'])
})

t.test('the removal of an unfinished chain', async t => {
  // in the middle: the template is whole and linked, the top is not begun
  const last = (await callsOf(argvOf(keep))).filter(({ name }) => name === 'link').at(-1)
  if (last === undefined) throw new Error('no template was linked')
  const unfinished = async () => {
    await removeAll()
    t.equal(await runUntilCall(argvOf(keep), last), 'SIGKILL')
  }
  await unfinished()
  await killAtEachStep(t, async () => { if ((await fixes()).length === 0) await unfinished() }, { what: 'delete', place, request: { image, volume: top, host, taskId: 'step' } }, async t => {
    const found = await status(image)
    const [broken, ...others] = await fixes()
    t.same(others, [])
    if (broken !== undefined) await follow('clean', broken)
    t.equal(await status(image), undefined)
    t.match(await status(template), { state: 'ok' })
    t.same(await traces(), [template, ...filesOf(template, base), `${template}.${base}.json`].sort())
    await removeAll()
    return found?.state ?? 'absent'
  }, ['interrupted', 'illegal', 'absent'])
})
