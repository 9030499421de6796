import { link, mkdir, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { prepareArea, withArea, type DomainPlace } from '../../src/storage/area.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { copy, holdTo, inPlace, names, part, volume } from '../helpers/durable-order.ts'
import { KiB, makeDisk, MiB } from '../helpers/images.ts'
import type { Rule } from '../helpers/order-rules.ts'
import { fillQcow2, makeOvirtDomain, putVolume, uuid } from '../helpers/ovirt.ts'
import type { StorageJob } from '../helpers/storage-change.ts'
import { copyJob, storageJobs } from '../helpers/storage-jobs.ts'

// The same as durable-order.test.ts, for volumes of an oVirt domain and chains of them.

t.setTimeout(300_000)

const { argvOf, work } = await storageJobs(t)
const root = await temporaryDirectory(t)
const local: DomainPlace = { id: 'local', path: join(root, 'local') }
const ovirt: DomainPlace = { id: uuid('domain'), path: await makeOvirtDomain(root, uuid('domain')), layout: 'ovirt' }
const from: DomainPlace = { id: uuid('source domain'), path: await makeOvirtDomain(root, uuid('source domain')), layout: 'ovirt' }
await prepareArea(local, true)
for (const place of [ovirt, from]) await withArea(place, async () => {})
const host = { id: 'node1' }
await makeDisk(join(local.path, 'source.raw'), 3 * MiB + 700, { blockBytes: 512 * KiB })

const request = { what: 'copy', verify: false, onExisting: 'refuse', ignoreSpace: false } as const
// windows of one MiB, so that there are several
const settings = { bandwidth: 20 * MiB, windowSeconds: 0.05, clone: false, directIo: false }
const disk = { image: uuid('disk'), volume: uuid('volume') }
const toOvirt = (format: 'raw' | 'qcow2', more: { generation?: number } = {}) => copyJob([local, ovirt], {
  ...request,
  source: { domain: 'local', image: 'source.raw', format: 'raw' },
  target: { domain: ovirt.id, ...disk, format, allocation: 'sparse', ...more },
  chain: 'flat'
}, settings)
const remove = (image: string, volume?: string) => ({ what: 'delete', place: ovirt, request: { image, volume, host, taskId: 'step' } }) as const

type Rules = Readonly<Record<string, Rule>>
async function check (t: Test, title: string, job: StorageJob, ...rules: readonly Rules[]): Promise<void> {
  await t.test(title, async t => { await holdTo(t, argvOf(job), ovirt.path, ...rules) })
}

t.test('in an oVirt domain', async t => {
  await check(t, 'a copy that makes a volume', toOvirt('qcow2'), names, copy, part, volume, inPlace)
  const deletion: Rules = {
    'the intent is durable before anything goes': { each: 'metadata \\S+ ILLEGAL .*', after: 'record \\S+ deleting' },
    'the volume is ILLEGAL before its data goes': { each: 'unlink images/([^/]+)/([^/.]+)', after: 'metadata images/{1}/{2}\\.meta ILLEGAL .*' },
    'the lease goes after the data': { each: 'unlink images/([^/]+)/([^/]+)\\.lease', after: 'fsync images/{1}', since: 'unlink images/{1}/{2}' },
    'the metadata goes last': { each: 'unlink images/([^/]+)/([^/]+)\\.meta', after: 'fsync images/{1}', since: 'unlink images/{1}/{2}\\.lease' },
    'the record goes when nothing else is left': { each: 'unlink copies/\\S+\\.json', after: 'fsync images(/.*)?', since: '(unlink|rmdir) images/.*' }
  }
  await check(t, 'the deletion of a volume', remove(disk.image, disk.volume), names, deletion)

  await putVolume(ovirt.path, ovirt.id, disk.image, disk.volume, async file => { await writeFile(file, ''); await truncate(file, 4 * MiB) }, { CAP: 4 * MiB, GEN: 7 })
  const { 'a name that was taken away is durable before the next step': _, ...given } = names
  await check(t, 'a copy into a volume that is there', toOvirt('raw', { generation: 7 }), given, copy, inPlace, {
    'the record is durable before the volume is ILLEGAL': { each: 'metadata \\S+ ILLEGAL .*', after: 'record \\S+ creating' },
    'the volume is ILLEGAL before the record says that it can be written': { each: 'record \\S+ copying.*', after: 'metadata \\S+ ILLEGAL .*' }
  })
  await work(remove(disk.image))

  await check(t, 'the creation of a volume', { what: 'create', place: ovirt, request: { ...disk, format: 'qcow2', virtualSize: MiB, allocation: 'sparse', host, taskId: 'step' } }, names, part, volume, {
    'the record goes when the volume is whole': { each: 'unlink copies/\\S+\\.json', after: 'fsync parts', since: 'link .*|unlink parts/data' }
  })
  await check(t, 'the deletion of an image', remove(disk.image), names, deletion)
})

t.test('in a chain', async t => {
  const [template, image] = [uuid('template'), uuid('chain')]
  const [base, top] = [uuid('base'), uuid('top')]
  await putVolume(from.path, from.id, template, base, async file => { await makeDisk(file, MiB, { blockBytes: 128 * KiB }) }, { CAP: MiB, VOLTYPE: 'SHARED' })
  await mkdir(join(from.path, 'images', image))
  for (const suffix of ['', '.meta', '.lease']) await link(join(from.path, 'images', template, `${base}${suffix}`), join(from.path, 'images', image, `${base}${suffix}`))
  await putVolume(from.path, from.id, image, top, async file => { await fillQcow2(file, MiB, { volume: base, format: 'raw' }, [[65536, 65536, 2]]) }, { CAP: MiB, FORMAT: 'COW', PUUID: base })
  const keep = copyJob([ovirt, from], { ...request, source: { domain: from.id, image }, target: { domain: ovirt.id, image, allocation: 'sparse' }, chain: 'keep' }, settings)
  await check(t, 'a chain that is kept', keep, names, copy, part, volume, inPlace, {
    'the record of the chain is the first': { each: `record ${template}.${base} creating`, after: `record ${image}.${top} creating` },
    'all of the chain is there, and ILLEGAL, before anything is copied': { each: 'window', after: `metadata images/${image}/${top}.meta ILLEGAL .*` },
    'the base is done before its child is': { each: `record ${image}.${top} finishing.*`, after: `record ${template}.${base} done` },
    'the base is no leaf any more before its child is LEGAL': { each: `metadata images/${image}/${top}.meta LEGAL .*`, after: `metadata images/${template}/${base}.meta LEGAL \\d+ SHARED` },
    'the template is linked before its child is LEGAL': { each: `metadata images/${image}/${top}.meta LEGAL .*`, after: `fsync images/${image}`, since: `link images/${template}/${base} -> images/${image}/${base}` },
    'of a template that is linked, the data comes last': { each: `link images/${template}/${base} -> .*`, after: `fsync images/${image}`, since: `link images/${template}/${base}\\.(meta|lease) -> .*` }
  })

  // a base that was copied as an image of its own is a leaf
  await work(remove(image))
  await work(remove(template))
  await work(copyJob([ovirt, from], {
    ...request, source: { domain: from.id, image: template, volume: base }, target: { domain: ovirt.id, image: template, volume: base, format: 'raw', allocation: 'sparse' }, chain: 'flat'
  }, settings))
  await check(t, 'a chain that is kept on a base which is there', keep, names, copy, {
    'the base is no leaf any more before its child is LEGAL': { each: `metadata images/${image}/${top}.meta LEGAL .*`, after: `metadata images/${template}/${base}.meta LEGAL \\d+ SHARED` }
  })
})
