import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { Fix, ImageStatus } from '../../src/api/image.ts'
import { prepareArea, withArea, type DomainPlace } from '../../src/storage/area.ts'
import { layouts } from '../../src/storage/domain/layouts.ts'
import { forgetCopy } from '../../src/storage/layout/forget.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { makeDisk, MiB } from '../helpers/images.ts'
import { makeOvirtDomain, metaText, metaValues, putVolume, uuid } from '../helpers/ovirt.ts'
import { copyJob, storageJobs } from '../helpers/storage-jobs.ts'
import { runUntilCall } from '../helpers/kill-at-call.ts'

// What was offered for one state of an image may be sent in another one: then it must do nothing.

t.setTimeout(300_000)

const { argvOf, work } = await storageJobs(t)
const root = await temporaryDirectory(t)
const local: DomainPlace = { id: 'local', path: join(root, 'images') }
const domain = uuid('domain')
const ovirt: DomainPlace = { id: domain, path: await makeOvirtDomain(root, domain), layout: 'ovirt' }
await mkdir(local.path)
await prepareArea(local, true)
await makeDisk(join(local.path, 'source.raw'), 3 * MiB)
const host = { id: 'node1' }

const copyTo = (image: string) => copyJob([local], {
  what: 'copy',
  source: { domain: 'local', image: 'source.raw', format: 'raw' },
  target: { domain: 'local', image, format: 'raw', allocation: 'sparse' },
  verify: false,
  chain: 'flat',
  onExisting: 'refuse',
  ignoreSpace: false
})
const interrupted = { name: 'rename', number: 4 }
const status = async (place: DomainPlace, image: string): Promise<ImageStatus> =>
  await withArea(place, async area => await layouts[area.layout].image(area, image, undefined))

/** The one fix of this kind that is offered for an image. */
async function offered (place: DomainPlace, image: string, kind: string): Promise<Fix> {
  const { fixes } = await status(place, image)
  const fix = fixes.find(({ task }) => task.kind === kind)
  if (fix === undefined) throw new Error(`${kind} is not offered: ${JSON.stringify(fixes)}`)
  return fix
}

/** Does what a fix says, as the agent would. */
async function send (place: DomainPlace, { task }: Fix): Promise<void> {
  await withArea(place, async area => {
    if (task.kind === 'storage.deleteImage') await layouts[area.layout].delete(area, { ...task, host, taskId: 'fix' }, () => {})
    else if (task.kind === 'storage.forgetCopy') await forgetCopy(area, task)
    else throw new Error(task.kind)
  })
}

/** All that is there of an image, to be compared. */
async function traces ({ path }: DomainPlace, image: string): Promise<unknown> {
  const names = (await readdir(path, { recursive: true })).filter(name => /vdsm-tasks.parts./.test(name) || (name.includes(image) && !name.includes('leases')))
  return await Promise.all(names.sort().map(async name => {
    const { ino, size, mtimeMs } = await stat(join(path, name))
    return [name, ino, size, mtimeMs]
  }))
}

async function isRefused (t: Test, place: DomainPlace, image: string, fix: Fix, code: string): Promise<void> {
  const before = await traces(place, image)
  await t.rejects(send(place, fix), { code }, `${code}: ${fix.description}`)
  t.strictSame(await traces(place, image), before, 'everything is as it was')
}

t.test('the removal of an unfinished copy', async t => {
  t.equal(await runUntilCall(argvOf(copyTo('a.raw')), interrupted), 'SIGKILL')
  const clean = await offered(local, 'a.raw', 'storage.deleteImage')

  // complete, but for the word in its record; before that, what the first kill has left of a record is removed
  const mend = copyJob([local], { what: 'mend', domain: 'local', image: 'a.raw' })
  t.equal(await runUntilCall(argvOf(mend), { name: 'unlink', number: 2 }), 'SIGKILL')
  t.ok(await stat(join(local.path, 'a.raw')))
  await isRefused(t, local, 'a.raw', clean, 'already-complete')
  await work(copyTo('a.raw'))
  t.match((await status(local, 'a.raw')).copy, { phase: 'done' })
  await isRefused(t, local, 'a.raw', clean, 'already-complete')

  await rm(join(local.path, 'a.raw'))
  t.equal(await runUntilCall(argvOf(copyTo('a.raw')), interrupted), 'SIGKILL')
  await isRefused(t, local, 'a.raw', clean, 'copy-not-found')
  await send(local, await offered(local, 'a.raw', 'storage.deleteImage'))
  t.same(await traces(local, 'a.raw'), [], 'the offer for what is there now is taken')
  await isRefused(t, local, 'a.raw', clean, 'copy-not-found')
})

t.test('the removal of what was left without a record', async t => {
  const record = join(local.path, '.vdsm-tasks/copies/b.raw.json')
  await writeFile(record, 'rubbish')
  const clean = await offered(local, 'b.raw', 'storage.deleteImage')
  await makeDisk(join(local.path, 'b.raw'), MiB)
  await isRefused(t, local, 'b.raw', clean, 'already-complete')

  const forget = await offered(local, 'b.raw', 'storage.forgetCopy')
  await rm(record)
  await rm(join(local.path, 'b.raw'))
  t.equal(await runUntilCall(argvOf(copyTo('b.raw')), interrupted), 'SIGKILL')
  await isRefused(t, local, 'b.raw', clean, 'image-interrupted')
  await isRefused(t, local, 'b.raw', forget, 'image-interrupted')
  await work(copyTo('b.raw'))
  await isRefused(t, local, 'b.raw', clean, 'already-complete')
  await isRefused(t, local, 'b.raw', forget, 'already-complete')

  await rm(join(local.path, 'b.raw'))
  await writeFile(record, 'rubbish')
  await send(local, clean)
  t.same(await traces(local, 'b.raw'), [], 'it is taken while it holds')
})

t.test('the forgetting of a record that a copy has left which was written since', async t => {
  const file = join(local.path, 'c.raw')
  t.equal(await runUntilCall(argvOf(copyTo('c.raw')), { name: 'unlink', number: 1 }), 'SIGKILL')
  await writeFile(file, 'written by a guest', { flag: 'r+' })
  const forget = await offered(local, 'c.raw', 'storage.forgetCopy')
  const left = await readFile(join(local.path, '.vdsm-tasks/copies/c.raw.json'))
  await send(local, forget)
  await rm(file)
  await work(copyTo('c.raw'))
  await isRefused(t, local, 'c.raw', forget, 'copy-not-found')
  t.match(JSON.parse(left.toString()), { phase: 'finishing' })
})

t.test('the removal of a volume, or an image, that was no good', async t => {
  const [image, volume] = [uuid('image'), uuid('volume')]
  const at = (name: string) => join(ovirt.path, 'images', image, name)
  await mkdir(join(ovirt.path, 'images', image))
  const emptyDirectory = await offered(ovirt, image, 'storage.deleteImage')
  await putVolume(ovirt.path, domain, image, volume, async path => { await makeDisk(path, MiB) }, { LEGALITY: 'ILLEGAL' })
  const illegal = await offered(ovirt, image, 'storage.deleteImage')
  await writeFile(at(`${volume}.meta`), metaText(metaValues(domain, image)))
  await isRefused(t, ovirt, image, illegal, 'already-complete')
  await isRefused(t, ovirt, image, emptyDirectory, 'already-complete')

  await rm(at(`${volume}.meta`))
  const halfBaked = await offered(ovirt, image, 'storage.deleteImage')
  await writeFile(at(`${volume}.meta`), metaText(metaValues(domain, image)))
  await isRefused(t, ovirt, image, halfBaked, 'already-complete')
  await rm(at(`${volume}.meta`))
  await send(ovirt, halfBaked)
  t.same(await traces(ovirt, image), [])
})

t.test('the end of the deletion of a whole image', async t => {
  const [image, volume] = [uuid('deleted image'), uuid('deleted volume')]
  const put = async () => await putVolume(ovirt.path, domain, image, volume, async path => { await makeDisk(path, MiB) })
  const remove = argvOf({ what: 'delete', place: ovirt, request: { image, host, taskId: 'whole' } })
  await put()
  t.equal(await runUntilCall(remove, { name: 'rename', number: 2 }), 'SIGKILL')
  const clean = await offered(ovirt, image, 'storage.deleteImage')
  t.match(clean.task, { copyId: /./ })
  await send(ovirt, clean)
  t.same(await traces(ovirt, image), [])

  await put()
  t.equal(await runUntilCall(remove, { name: 'rename', number: 2 }), 'SIGKILL')
  await isRefused(t, ovirt, image, clean, 'copy-not-found')

  // the volume is made anew: the deletion meant another one
  await rm(join(ovirt.path, 'images', image, volume))
  await put()
  const state = await status(ovirt, image)
  t.match([state.state, state.fixes.map(({ task }) => task.kind)], ['ok', ['storage.forgetCopy']])
  await send(ovirt, await offered(ovirt, image, 'storage.forgetCopy'))
  t.match(await status(ovirt, image), { state: 'ok' })

  await writeFile(join(ovirt.path, '.vdsm-tasks/copies', `${image}.json`), 'rubbish')
  const unreadable = await status(ovirt, image)
  t.match([unreadable.state, unreadable.fixes.map(({ task }) => task.kind)], ['ok', ['storage.forgetCopy']], 'nor does an unreadable record condemn it')
  await send(ovirt, await offered(ovirt, image, 'storage.forgetCopy'))
  t.match(await status(ovirt, image), { state: 'ok' })
})
