import { link, mkdir, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { prepareArea, withArea, type DomainPlace } from '../../src/storage/area.ts'
import { intersect, subtract, total, union, type Ranges } from '../../src/storage/ranges.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { KiB, makeDisk, MiB } from '../helpers/images.ts'
import { broken, doctored, type Rule } from '../helpers/order-rules.ts'
import { fillQcow2, makeOvirtDomain, putVolume, uuid } from '../helpers/ovirt.ts'
import type { StorageJob } from '../helpers/storage-change.ts'
import { copyJob, storageJobs } from '../helpers/storage-jobs.ts'
import { runUntilCall } from '../helpers/strace.ts'
import { traceOf, type Step } from '../helpers/trace.ts'

// Every piece of storage work is done for real under strace, and the order of its steps is held against the rules below.
// A crash between two steps in the wrong order is what a kill cannot show: the page cache survives it.

t.setTimeout(300_000)

/** Whatever else changes a name: a change before is durable by then. */
const next = '(rename|link|unlink|mkdir|rmdir|create (?!leases)).*'

/** Changes of names, in everything that is done. */
const names: Record<string, Rule> = {
  'a file has its content before its name': { each: 'rename (\\S+\\.new) -> .*', after: 'fsync {1}', since: 'write {1}' },
  'a name that was given is durable before the next step': { each: '(?:rename|link) .* -> (\\S+)/[^/]+', then: 'fsync {1}', until: next },
  'a name that was taken away is durable before the next step': { each: '(?:unlink|rmdir) (\\S+)/[^/]+', then: 'fsync {1}', until: next }
}

/** Whether a record says that a window may be written. */
const isNamed = ({ range }: Step, { record }: Step) => range !== undefined && record !== undefined && isWithin([[range[0], Math.min(range[1], record.virtualSize)]], union(record.begun, record.done))
const isWithin = (ranges: Ranges, others: Ranges) => total(subtract(ranges, others)) === 0
/** Whether a record counts anything of a window as done. */
const isCounted = ({ record, what }: Step, { range, key }: Step) => range !== undefined && record !== undefined && what.startsWith(`record ${key} `) && total(intersect([range], record.done)) > 0

/** A copy, whatever its layout is. */
const copy: Record<string, Rule> = {
  'a window is named in a durable record before it begins': { each: 'window', after: 'record \\S+ copying.*', is: isNamed },
  'a window is counted as done after a flush that began when it was whole': { each: 'record \\S+ copying counting', after: 'fdatasync data', since: isCounted },
  'everything is flushed before the end begins': { each: 'record \\S+ finishing.*', after: 'fdatasync data', since: 'window|(ftruncate|copy into) data' },
  'the end begins when every window is counted': { each: 'record (\\S+) finishing.*', after: 'record {1} copying counting', is: (_, { record }) => record !== undefined && total(record.done) === record.virtualSize }
}

/** In a raw target, the place in the file is that of the disk. */
const inRaw: Record<string, Rule> = {
  'nothing is written that the record does not name': { each: 'copy into data', after: 'record \\S+ copying.*', is: isNamed }
}

/** A part that is made. */
const part: Record<string, Rule> = {
  'a record is durable before the part is made': { each: 'create parts/data', after: 'record \\S+ creating' },
  'the part is durable before the record says that it can be written': { each: 'record \\S+ (?:copying|finishing).*', after: 'fsync data', since: 'create parts/data' },
  'the name of the part is durable before the record says so': { each: 'record \\S+ (?:copying|finishing).*', after: 'fsync parts', since: 'create parts/data' }
}

/** The end of a copy to a directory. */
const name: Record<string, Rule> = {
  'the record says that the end has begun before the image gets its name': { each: '(?:link|rename) parts/data -> root/.*', after: 'record \\S+ finishing.*' },
  'the record says that the copy is done when its name is durable': { each: 'record \\S+ done', after: 'fsync root', since: '(link|rename) parts/data -> root/.*' },
  'the record says that the copy is done when nothing of it is left elsewhere': { each: 'record \\S+ done', after: 'fsync parts', since: '(unlink|rename) parts/data.*' }
}

/** A volume that is made, and looked for by others from its first step on. */
const volume: Record<string, Rule> = {
  'the record knows the inode of the volume before that gets its name': { each: 'link parts/data -> images/.*', after: 'record \\S+ (creating|finishing)', is: (_, { record }) => record?.inode !== undefined },
  'the data is there before its metadata': { each: 'create images/(\\S+)/[^/]+\\.meta\\.new', after: 'fsync images/{1}', since: 'link parts/data -> images/{1}/[^/.]+' },
  'the metadata is there before the lease': { each: 'link parts/lease -> images/(\\S+)\\.lease', after: 'metadata images/{1}\\.meta .*' },
  'a lease is whole before it has its name': { each: 'link parts/lease -> .*', after: 'fsync parts/lease', since: 'create parts/lease' },
  'the part is the proof that the volume is ours until the lease is there': { each: 'unlink parts/data', after: 'link parts/lease -> images/.*' }
}

/** A volume that is written in place. */
const inPlace: Record<string, Rule> = {
  'the volume is ILLEGAL before it is written': { each: 'window', after: 'metadata \\S+ ILLEGAL .*' },
  'the record says that the end has begun before the volume is LEGAL': { each: 'metadata images/([^/]+)/(\\S+)\\.meta LEGAL .* LEAF', after: 'record {1}\\.{2} finishing.*' },
  'the record says that the copy is done when the volume is LEGAL': { each: 'record ([^.]+)\\.(\\S+) done', after: 'metadata images/{1}/{2}\\.meta LEGAL .*' }
}

const { argvOf, work } = await storageJobs(t)
const root = await temporaryDirectory(t)
const local: DomainPlace = { id: 'local', path: join(root, 'local') }
const ovirt: DomainPlace = { id: uuid('domain'), path: await makeOvirtDomain(root, uuid('domain')), layout: 'ovirt' }
const from: DomainPlace = { id: uuid('source domain'), path: await makeOvirtDomain(root, uuid('source domain')), layout: 'ovirt' }
await prepareArea(local, true)
for (const place of [ovirt, from]) await withArea(place, async () => {})
const host = { id: 'node1' }
const at = (name: string) => join(local.path, name)
for (const name of ['source.raw', 'other.raw']) await makeDisk(at(name), 3 * MiB + 700, { blockBytes: 512 * KiB })

const request = { what: 'copy', source: { domain: 'local', image: 'source.raw', format: 'raw' }, verify: false, chain: 'flat', onExisting: 'refuse', ignoreSpace: false } as const
// windows of one MiB, so that there are several
const settings = { bandwidth: 20 * MiB, windowSeconds: 0.05, clone: false }
const toLocal = (format: 'raw' | 'qcow2', { replace = false, directIo = false } = {}) => copyJob([local], {
  ...request, source: { domain: 'local', image: replace ? 'other.raw' : 'source.raw', format: 'raw' }, target: { domain: 'local', image: `target.${format}`, format, allocation: 'sparse' }, onExisting: replace ? 'replace' : 'refuse'
}, { ...settings, directIo })
const disk = { image: uuid('disk'), volume: uuid('volume') }
const toOvirt = (format: 'raw' | 'qcow2', more: { generation?: number } = {}) => copyJob([local, ovirt], { ...request, target: { domain: ovirt.id, ...disk, format, allocation: 'sparse', ...more } }, { ...settings, directIo: false })
const removeLocal = (image: string) => ({ what: 'delete', place: local, request: { image, host, taskId: 'step' } }) as const
const removeVolume = (image: string, volume?: string) => ({ what: 'delete', place: ovirt, request: { image, volume, host, taskId: 'step' } }) as const

/** Traces a job, and shows of every rule that it holds, and that it would not without the step that it asks for. */
async function check (t: Test, title: string, job: StorageJob, { path }: DomainPlace, ...rules: Array<Record<string, Rule>>): Promise<void> {
  await t.test(title, async t => {
    const steps = await traceOf(argvOf(job), path)
    const all: Record<string, Rule> = Object.assign({}, ...rules)
    t.strictSame(broken(all, steps), [])
    for (const [title, rule] of Object.entries(all)) {
      for (const [how, trace] of Object.entries(doctored(rule, steps))) t.not(broken({ [title]: rule }, trace).length, 0, `${title}: not ${how}`)
    }
  })
}

const taken: Record<string, Rule> = {
  'the record says who goes on before anything is copied': { each: 'window', after: 'record \\S+ copying', is: (_, { record }) => record?.epoch === 2 }
}

t.test('in a directory', async t => {
  for (const format of ['raw', 'qcow2'] as const) {
    await check(t, `a copy to ${format}`, toLocal(format), local, names, copy, part, name, format === 'raw' ? inRaw : {})
    await check(t, `a copy to ${format} in the place of another`, toLocal(format, { replace: true }), local, { ...names, 'a name that was taken away is durable before the next step': { each: 'rename (parts)/data -> root/.*', then: 'fsync {1}', until: next } }, copy, part, name)
    await work(removeLocal(`target.${format}`))
    t.equal(await runUntilCall(argvOf(toLocal(format)), { name: 'fdatasync', number: 1 }), 'SIGKILL')
    await check(t, `the mending of a copy to ${format}`, copyJob([local], { what: 'mend', domain: 'local', image: `target.${format}` }, { ...settings, directIo: false }), local, names, copy, name, taken)
    await check(t, `the deletion of a copy in ${format}`, removeLocal(`target.${format}`), local, names, {
      'the intent is durable before the image goes': { each: 'unlink root/target.*', after: 'record \\S+ deleting' },
      'the record goes when the image is gone': { each: 'unlink copies/\\S+\\.json', after: 'fsync root', since: 'unlink root/.*' }
    })
  }

  await check(t, 'a copy past the page cache', toLocal('raw', { directIo: true }), local, names, copy, part, name)
  await work(removeLocal('target.raw'))

  await check(t, 'a creation', { what: 'create', place: local, request: { image: 'made.qcow2', format: 'qcow2', virtualSize: MiB, allocation: 'sparse', host, taskId: 'step' } }, local, names, part, {
    'the record knows the inode of the image before that gets its name': { each: 'link parts/data -> root/.*', after: 'record \\S+ finishing', is: (_, { record }) => record?.inode !== undefined },
    'the record goes when the image has its name, and nothing else is left': { each: 'unlink copies/\\S+\\.json', after: 'fsync parts', since: 'unlink parts/data' }
  })
})

t.test('in an oVirt domain', async t => {
  await check(t, 'a copy that makes a volume', toOvirt('qcow2'), ovirt, names, copy, part, volume, inPlace)
  const deletion: Record<string, Rule> = {
    'the intent is durable before anything goes': { each: 'metadata \\S+ ILLEGAL .*', after: 'record \\S+ deleting' },
    'the volume is ILLEGAL before its data goes': { each: 'unlink images/([^/]+)/([^/.]+)', after: 'metadata images/{1}/{2}\\.meta ILLEGAL .*' },
    'the lease goes after the data': { each: 'unlink images/([^/]+)/([^/]+)\\.lease', after: 'fsync images/{1}', since: 'unlink images/{1}/{2}' },
    'the metadata goes last': { each: 'unlink images/([^/]+)/([^/]+)\\.meta', after: 'fsync images/{1}', since: 'unlink images/{1}/{2}\\.lease' },
    'the record goes when nothing else is left': { each: 'unlink copies/\\S+\\.json', after: 'fsync images(/.*)?', since: '(unlink|rmdir) images/.*' }
  }
  await check(t, 'the deletion of a volume', removeVolume(disk.image, disk.volume), ovirt, names, deletion)

  await putVolume(ovirt.path, ovirt.id, disk.image, disk.volume, async file => { await writeFile(file, ''); await truncate(file, 4 * MiB) }, { CAP: 4 * MiB, GEN: 7 })
  const { 'a name that was taken away is durable before the next step': _, ...given } = names
  await check(t, 'a copy into a volume that is there', toOvirt('raw', { generation: 7 }), ovirt, given, copy, inPlace, {
    'the record is durable before the volume is ILLEGAL': { each: 'metadata \\S+ ILLEGAL .*', after: 'record \\S+ creating' },
    'the volume is ILLEGAL before the record says that it can be written': { each: 'record \\S+ copying.*', after: 'metadata \\S+ ILLEGAL .*' }
  })
  await work(removeVolume(disk.image))

  await check(t, 'the creation of a volume', { what: 'create', place: ovirt, request: { ...disk, format: 'qcow2', virtualSize: MiB, allocation: 'sparse', host, taskId: 'step' } }, ovirt, names, part, volume, {
    'the record goes when the volume is whole': { each: 'unlink copies/\\S+\\.json', after: 'fsync parts', since: 'link .*|unlink parts/data' }
  })
  await check(t, 'the deletion of an image', removeVolume(disk.image), ovirt, names, deletion)
})

t.test('in a chain', async t => {
  const [template, image] = [uuid('template'), uuid('chain')]
  const [base, top] = [uuid('base'), uuid('top')]
  await putVolume(from.path, from.id, template, base, async file => { await makeDisk(file, MiB, { blockBytes: 128 * KiB }) }, { CAP: MiB, VOLTYPE: 'SHARED' })
  await mkdir(join(from.path, 'images', image))
  for (const suffix of ['', '.meta', '.lease']) await link(join(from.path, 'images', template, `${base}${suffix}`), join(from.path, 'images', image, `${base}${suffix}`))
  await putVolume(from.path, from.id, image, top, async file => { await fillQcow2(file, MiB, { volume: base, format: 'raw' }, [[65536, 65536, 2]]) }, { CAP: MiB, FORMAT: 'COW', PUUID: base })
  const keep = copyJob([ovirt, from], { ...request, source: { domain: from.id, image }, target: { domain: ovirt.id, image, allocation: 'sparse' }, chain: 'keep' }, { ...settings, directIo: false })
  await check(t, 'a chain that is kept', keep, ovirt, names, copy, part, volume, inPlace, {
    'the record of the chain is the first': { each: `record ${template}.${base} creating`, after: `record ${image}.${top} creating` },
    'all of the chain is there, and ILLEGAL, before anything is copied': { each: 'window', after: `metadata images/${image}/${top}.meta ILLEGAL .*` },
    'the base is done before its child is': { each: `record ${image}.${top} finishing.*`, after: `record ${template}.${base} done` },
    'the base is no leaf any more before its child is LEGAL': { each: `metadata images/${image}/${top}.meta LEGAL .*`, after: `metadata images/${template}/${base}.meta LEGAL \\d+ SHARED` },
    'the template is linked before its child is LEGAL': { each: `metadata images/${image}/${top}.meta LEGAL .*`, after: `fsync images/${image}`, since: `link images/${template}/${base} -> images/${image}/${base}` },
    'of a template that is linked, the data comes last': { each: `link images/${template}/${base} -> .*`, after: `fsync images/${image}`, since: `link images/${template}/${base}\\.(meta|lease) -> .*` }
  })
})
