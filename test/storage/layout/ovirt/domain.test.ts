import { randomUUID } from 'node:crypto'
import { link, mkdir, readdir, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { AppError } from '../../../../src/errors.ts'
import { withArea, type DomainPlace } from '../../../../src/storage/area.ts'
import { layouts } from '../../../../src/storage/domain/layouts.ts'
import { identityOf } from '../../../../src/storage/identity.ts'
import { sourcelessRecord, writeRecord } from '../../../../src/storage/record.ts'
import { listing, temporaryDirectory } from '../../../helpers/directory.ts'
import { Empty } from '../../../helpers/empty.ts'
import { makeDisk, MiB, sh } from '../../../helpers/images.ts'
import { needs } from '../../../helpers/needs.ts'
import { domainMetadata, fillQcow2, makeOvirtDomain, metaText, metaValues, noParent, putVolume, readMeta, uuid } from '../../../helpers/ovirt.ts'

needs('qemu-img')

const { ovirt } = layouts
const host = { id: 'node1' }
const root = await temporaryDirectory(t)
const domain = uuid('domain')
const path = await makeOvirtDomain(root, domain)
const place: DomainPlace = { id: domain, path, layout: 'ovirt' }
const at = (image: string, ...rest: string[]) => join(path, 'images', image, ...rest)

const image = async (name: string) => await withArea(place, async area => await ovirt.image(area, name, undefined))
const fixes = async () => await withArea(place, async area => await ovirt.fixes(area))
const remove = async (named: { image: string, volume?: string }) => await withArea(place, async area => await ovirt.delete(area, { ...named, host, taskId: 'x' }, () => {}))
const refusal = async (work: Promise<unknown>) => await work.then(() => undefined, (error: unknown) => error instanceof AppError ? error : Promise.reject(error))
const raw = async (file: string) => { await makeDisk(file, MiB, { blockBytes: 65536 }) }

t.test('a volume tells everything that its metadata says, and its chain', async t => {
  const [disk, base, middle, top] = [uuid('chain'), uuid('chain base'), uuid('chain middle'), uuid('chain top')]
  await putVolume(path, domain, disk, base, raw, { VOLTYPE: 'INTERNAL' })
  await putVolume(path, domain, disk, middle, async file => { await fillQcow2(file, MiB, { volume: base, format: 'raw' }, [[0, 65536, 1]]) }, { FORMAT: 'COW', PUUID: base, VOLTYPE: 'INTERNAL' })
  await putVolume(path, domain, disk, top, async file => { await fillQcow2(file, MiB, { volume: middle, format: 'qcow2' }, [[65536, 65536, 2]]) }, { FORMAT: 'COW', PUUID: middle, GEN: 999, SEQ: 3 })
  const status = await image(disk)
  t.match(status, { domain, image: disk, state: 'ok', format: 'qcow2', virtualSize: MiB, fixes: Empty })
  t.same(status.volumes?.map(({ volume }) => volume), [base, middle, top], 'the base first')
  t.same(status.volumes?.map(({ info }) => [info?.parent, info?.children, info?.voltype]), [[noParent, [middle], 'INTERNAL'], [base, [top], 'INTERNAL'], [middle, [], 'LEAF']])
  const info = status.volumes?.[2]?.info
  t.match(info, {
    uuid: top,
    domain,
    image: disk,
    pool: '',
    format: 'COW',
    type: 'SPARSE',
    disktype: 'DATA',
    description: '{"DiskAlias":"größe","DiskDescription":""}',
    legality: 'LEGAL',
    status: 'OK',
    generation: 999,
    sequence: 3,
    ctime: 1700000000,
    mtime: 0,
    capacity: MiB,
    lease: { path: at(disk, `${top}.lease`), offset: 0 }
  })
  t.ok((info?.apparentsize ?? 0) > 65536 && (info?.truesize ?? 0) > 65536)
  const [entry] = await withArea(place, async area => await ovirt.images(area, '', 100))
  t.match(entry, { image: disk, volumes: 3, format: 'qcow2' })
  for (const name of ['.hidden', '0', '00 a file', 'a file']) await writeFile(at(name), '')
  t.match(await withArea(place, async area => await ovirt.images(area, '', 1)), [{ image: disk }], 'files before it do not hide it')
  for (const name of ['.hidden', '0', '00 a file', 'a file']) await rm(at(name))
  t.same(await fixes(), [])

  t.match(await refusal(remove({ image: disk, volume: middle })), { code: 'has-children', members: { children: [top] } })
  await remove({ image: disk, volume: top })
  t.same((await readdir(at(disk))).sort(), [base, middle].flatMap(volume => [volume, `${volume}.lease`, `${volume}.meta`]).sort())
  t.match(await readMeta(at(disk, `${middle}.meta`)), { VOLTYPE: 'LEAF', PUUID: base, GEN: '7', LEGALITY: 'LEGAL' }, 'the parent is a leaf again, and nothing else of it has changed')
  await remove({ image: disk })
  t.same(await readdir(join(path, 'images')), [])
})

t.test('metadata that cannot be used are named with file and key, and nothing is changed', async t => {
  const [disk, volume] = [uuid('bad'), uuid('bad volume')]
  await putVolume(path, domain, disk, volume, raw)
  const file = at(disk, `${volume}.meta`)
  const good = metaValues(domain, disk)
  const without = (key: string) => metaText(Object.fromEntries(Object.entries(good).filter(([name]) => name !== key)))
  const mandatory = ['CAP', 'CTIME', 'DESCRIPTION', 'DISKTYPE', 'DOMAIN', 'FORMAT', 'IMAGE', 'LEGALITY', 'PUUID', 'TYPE', 'VOLTYPE']
  const table: Array<[string, string | Buffer, RegExp]> = [
    ['too large', metaText({ ...good, DESCRIPTION: 'x'.repeat(500) }), /larger than 512 bytes/],
    ...mandatory.map((key): [string, string, RegExp] => [`no ${key}`, without(key), new RegExp(`the key ${key} is missing`)]),
    ['a line that is none', metaText(good).replace('CTIME=', 'CTIME '), /its line 2 is not KEY=value/],
    ['not UTF-8', Buffer.from(metaText({ ...good, DESCRIPTION: '\xff' }), 'latin1'), /its line 3 is not UTF-8/],
    ['a size that is none', metaText({ ...good, CAP: '12x' }), /the key CAP is "12x"/],
    ['a time that is none', metaText({ ...good, CTIME: '17e9' }), /the key CTIME is "17e9"/],
    ['a time before all others', metaText({ ...good, CTIME: '-1' }), /the key CTIME is "-1"/],
    ['a parent that is none', metaText({ ...good, PUUID: '../../etc/passwd' }), /the key PUUID is ".*", not a UUID/],
    ['a key twice', metaText(good).replace('EOF', 'CAP=1\nEOF'), /the key "CAP" stands there twice/],
    ['nothing', '', /the key PUUID is missing/],
    ['a wrong word', metaText({ ...good, LEGALITY: 'FINE' }), /the key LEGALITY is "FINE"/],
    ['a generation too high', metaText({ ...good, GEN: 1000 }), /the key GEN is "1000"/],
    ['of another domain', metaText({ ...good, DOMAIN: uuid('other') }), /the key DOMAIN/]
  ]
  for (const [what, content, problem] of table) {
    await writeFile(file, content)
    const before = await listing(at(disk))
    const status = await image(disk)
    t.match(status, { state: 'illegal', volumes: [{ volume, state: 'illegal', detail: problem, fixes: Empty }] }, what)
    t.match(status.detail, file)
    t.match(await fixes(), [{ image: disk, volume, detail: problem, fixes: Empty }], `${what}: nothing that would remove it is offered`)
    for (const named of [{ image: disk }, { image: disk, volume }]) t.match(await refusal(remove(named)), { code: 'metadata-invalid', message: problem }, `${what}: not deleted`)
    t.same(await listing(at(disk)), before, `${what}: nothing has changed`)
  }
  const full = metaText({ ...good, DESCRIPTION: '' })
  await writeFile(file, metaText({ ...good, DESCRIPTION: 'x'.repeat(512 - full.length) }))
  t.match(await image(disk), { state: 'ok' }, 'exactly 512 bytes are fine')
  // GEN and SEQ are younger than the format
  await writeFile(file, metaText(Object.fromEntries(Object.entries(good).filter(([name]) => name !== 'GEN' && name !== 'SEQ'))))
  t.match(await image(disk), { state: 'ok', volumes: [{ info: { generation: 0, sequence: 0 } }] })
  await remove({ image: disk })
})

t.test('a cycle of parents is told', async t => {
  const [disk, one, two] = [uuid('cycle'), uuid('cycle one'), uuid('cycle two')]
  await putVolume(path, domain, disk, one, raw, { PUUID: two })
  await putVolume(path, domain, disk, two, raw, { PUUID: one })
  const status = await image(disk)
  t.match(status, { state: 'illegal', detail: /the key PUUID of .* leads round in a cycle/ })
  t.match(status.detail, `${one}.meta`)
  t.match(await fixes(), [{ image: disk, detail: /cycle/, fixes: Empty }])
  t.match(await refusal(remove({ image: disk, volume: one })), { code: 'has-children' })
  await remove({ image: disk })
})

t.test('what does not belong among images and volumes is told, and never followed or removed', async t => {
  const [disk, good, linked, other] = [uuid('odd'), uuid('odd good'), uuid('odd linked'), uuid('odd other')]
  await putVolume(path, domain, disk, good, raw)
  await putVolume(path, domain, disk, linked, raw)
  await rm(at(disk, linked))
  await symlink('/etc/hostname', at(disk, linked))
  await mkdir(join(path, 'images', 'lost+found'))
  await mkdir(join(path, 'images', disk.toUpperCase()))
  await writeFile(join(path, 'images', uuid('a file')), '')
  await symlink(at(disk), join(path, 'images', uuid('a link')))
  const before = await listing(path)
  t.match(await withArea(place, async area => await ovirt.images(area, '', 100)), [{ image: disk, volumes: 2 }])
  t.match((await image(disk)).volumes?.toSorted((a, b) => a.volume === good ? -1 : 1), [{ volume: good, state: 'ok' }, { volume: linked, state: 'illegal', detail: /is not a regular file/, fixes: Empty }])
  const broken = await fixes()
  t.same(broken.map(({ image }) => image).sort(), [disk, uuid('a file'), uuid('a link')].sort())
  t.ok(broken.every(({ fixes }) => fixes.length === 0))
  for (const named of [{ image: disk }, { image: disk, volume: linked }, { image: uuid('a link') }, { image: uuid('a link'), volume: good }]) t.match(await refusal(remove(named)), { code: 'image-invalid' })
  t.same((await listing(path)).filter(line => !line.startsWith('.vdsm-tasks')), before.filter(line => !line.startsWith('.vdsm-tasks')))
  for (const name of ['lost+found', disk.toUpperCase(), uuid('a file'), uuid('a link')]) await rm(join(path, 'images', name), { recursive: true })
  await rm(at(disk, linked))
  await rm(at(disk, `${linked}.meta`))

  // the parent of a volume must be in the same image, and only one volume may be without children for a reader to know which is meant
  await putVolume(path, domain, uuid('elsewhere'), other, raw)
  await putVolume(path, domain, disk, linked, raw, { PUUID: other })
  t.match(await image(disk), { state: 'illegal', detail: /names in the key PUUID a volume .* that is not there/, fixes: Empty })
  t.match(await fixes(), [{ image: disk, fixes: Empty }])
  await writeFile(at(disk, `${linked}.meta`), metaText(metaValues(domain, disk)))
  t.match(await image(disk), { state: 'ok', format: undefined, volumes: [Object, Object] })
  for (const name of [disk, uuid('elsewhere')]) await remove({ image: name })
})

t.test('what is left half-made has its fix, and the fix cleans it', async t => {
  const [disk, volume, other] = [uuid('left'), uuid('left volume'), uuid('left other')]
  const put = async (more = {}) => await putVolume(path, domain, disk, volume, raw, more)
  const table: Array<[string, () => Promise<void>, RegExp]> = [
    ['half-baked', async () => { await put(); await rm(at(disk, `${volume}.meta`)) }, /half-baked/],
    ['ILLEGAL', async () => { await put({ LEGALITY: 'ILLEGAL' }) }, /is ILLEGAL, and no copy record/],
    ['a deletion without its last step', async () => { await put({ LEGALITY: 'ILLEGAL' }); await rm(at(disk, volume)); await rm(at(disk, `${volume}.lease`)) }, /metadata, but no data/],
    ['a lease alone', async () => { await put(); await rm(at(disk, volume)); await rm(at(disk, `${volume}.meta`)) }, /neither data nor metadata/],
    ['an unfinished write of metadata', async () => { await put(); await rm(at(disk, volume)); await rm(at(disk, `${volume}.lease`)); await rename(at(disk, `${volume}.meta`), at(disk, `${volume}.meta.new`)) }, /neither data nor metadata/]
  ]
  for (const [what, prepare, detail] of table) {
    await prepare()
    t.match(await image(disk), { state: 'illegal', volumes: [{ state: 'illegal', detail }] }, what)
    const [broken, ...more] = await fixes()
    t.same(more, [])
    t.match(broken, { image: disk, volume, state: 'illegal', detail, fixes: [{ action: 'clean', task: { kind: 'storage.deleteImage', domain, image: disk, volume } }] }, what)
    await remove({ image: disk, volume })
    t.same(await readdir(join(path, 'images')), [], `${what}: all is gone`)
  }
  // one that others are based on is not offered to be removed
  await put({ LEGALITY: 'ILLEGAL', VOLTYPE: 'INTERNAL' })
  await putVolume(path, domain, disk, other, raw, { PUUID: volume })
  t.match(await fixes(), [{ volume, fixes: Empty }])
  await remove({ image: disk })

  await mkdir(at(disk))
  t.match(await fixes(), [{ image: disk, detail: /no volumes/, fixes: [{ task: { kind: 'storage.deleteImage', image: disk } }] }])
  await remove({ image: disk })
  await putVolume(path, domain, `_remove_me_${disk}`, volume, raw, { IMAGE: disk })
  t.match((await withArea(place, async area => await ovirt.images(area, '', 10))), [{ image: `_remove_me_${disk}` }])
  const [removed] = await fixes()
  t.match(removed, { image: `_remove_me_${disk}`, detail: /vdsm was removing/, fixes: [{ task: { image: `_remove_me_${disk}` } }] })
  await remove({ image: `_remove_me_${disk}` })
  t.same(await readdir(join(path, 'images')), [])
  t.same(await fixes(), [])
})

t.test('records that were cut off in their first write belong to the unfinished chain that names their volumes', async t => {
  const [disk, template, other, base, middle, top] = ['cut off', 'cut off template', 'cut off other', 'cut off base', 'cut off middle', 'cut off top'].map(uuid) as [string, string, string, string, string, string]
  const copies = join(path, '.vdsm-tasks/copies')
  const cutOff = async (image: string, volume: string) => { await writeFile(join(copies, `${image}.${volume}.json.new`), '{') }
  const source = { domain: uuid('elsewhere'), virtualSize: MiB, files: [{ image: disk, volume: top, format: 'qcow2' as const, identity: identityOf(await stat(path, { bigint: true })) }] }
  const chain = { id: randomUUID(), volumes: [{ image: template, volume: base, bytes: MiB }, { image: disk, volume: middle, bytes: MiB }] }
  await withArea(place, async area => {
    await writeRecord(area.copies, { ...sourcelessRecord(area, { image: disk, volume: top }, 'creating', { host, taskId: 'x' }, { format: 'raw', virtualSize: MiB, allocation: 'sparse' }), source, chain })
  })
  for (const volume of [base, middle, top]) await cutOff(volume === base ? template : disk, volume)
  const [broken, ...more] = await fixes()
  t.match(broken, { image: disk, volume: top, state: 'interrupted', fixes: [{ action: 'mend' }, { action: 'clean' }] })
  t.same(more, [])
  t.match(await image(template), { state: 'illegal', detail: new RegExp(`before it was accepted. It is part of the copy of the chain of volume ${disk}/${top}.`), fixes: Empty })
  t.same((await image(disk)).fixes, broken?.fixes, 'one way out of all of it')
  // others are told by themselves, and so is what has a volume
  await cutOff(other, base)
  t.match(await fixes(), [{ image: disk }, { image: other, volume: base, fixes: [{ action: 'clean' }] }].sort((a, b) => a.image < b.image ? -1 : 1))
  await remove({ image: other, volume: base })
  await putVolume(path, domain, template, base, raw, { LEGALITY: 'ILLEGAL' })
  t.match(await fixes(), [{ image: disk }, { image: template, volume: base, detail: /is ILLEGAL, and no copy record/ }].sort((a, b) => a.image < b.image ? -1 : 1))
  await remove({ image: template, volume: base })
  await cutOff(template, base)
  await remove({ image: disk, volume: top })
  t.match(await fixes(), [{ image: template, volume: base, fixes: [{ action: 'clean' }] }], 'of the chain\'s own image nothing is left')
  await remove({ image: template, volume: base })
  t.same(await fixes(), [])
  t.same([...await readdir(copies), ...await readdir(join(path, 'images'))], [])
})

t.test('a template is not deleted while another image is based on it', async t => {
  const [template, base, disk, leaf] = [uuid('template'), uuid('template volume'), uuid('clone'), uuid('clone volume')]
  await putVolume(path, domain, template, base, raw, { VOLTYPE: 'SHARED' })
  await putVolume(path, domain, disk, leaf, async file => {
    for (const suffix of ['', '.meta', '.lease']) await link(at(template, `${base}${suffix}`), at(disk, `${base}${suffix}`))
    await fillQcow2(file, MiB, { volume: base, format: 'raw' }, [[0, 65536, 9]])
  }, { FORMAT: 'COW', PUUID: base })
  t.match((await image(disk)).volumes, [{ volume: base, info: { image: template, voltype: 'SHARED', children: [leaf] } }, { volume: leaf, info: { image: disk } }])
  for (const named of [{ image: template }, { image: template, volume: base }]) t.match(await refusal(remove(named)), { code: 'has-children', members: { children: [leaf] } })
  await remove({ image: disk })
  t.match(await image(template), { state: 'ok', volumes: [{ info: { legality: 'LEGAL', voltype: 'SHARED' } }] }, 'the template is as it was')
  t.same(await readMeta(at(template, `${base}.meta`)), Object.fromEntries(Object.entries(metaValues(domain, template, { VOLTYPE: 'SHARED' })).map(([key, value]) => [key, String(value)])))
  await remove({ image: template })
})

t.test('a volume is created as vdsm would, and every key can be read back', async t => {
  const [disk, volume] = [uuid('made'), uuid('made volume')]
  const request = { image: disk, volume, format: 'qcow2' as const, virtualSize: MiB + 512, allocation: 'sparse' as const, description: 'ä "x"=1', host, taskId: 'x' }
  const create = async (more: object = {}) => await withArea(place, async area => await ovirt.create(area, { ...request, ...more }))
  t.same(await create(), { domain, image: disk, volume, virtualSize: MiB + 4096 })
  const { CTIME, ...meta } = await readMeta(at(disk, `${volume}.meta`))
  t.same(meta, { CAP: String(MiB + 4096), DESCRIPTION: 'ä "x"=1', DISKTYPE: 'DATA', DOMAIN: domain, FORMAT: 'COW', GEN: '0', IMAGE: disk, LEGALITY: 'LEGAL', PUUID: noParent, SEQ: '0', TYPE: 'SPARSE', VOLTYPE: 'LEAF' })
  t.ok(Math.abs(Number(CTIME) - Date.now() / 1000) < 60)
  t.match(JSON.parse(await sh('qemu-img', 'info', '--output=json', at(disk, volume))), { format: 'qcow2', 'virtual-size': MiB + 4096 })
  t.same((await readdir(at(disk))).sort(), [volume, `${volume}.lease`, `${volume}.meta`].sort(), 'and nothing else')
  t.match(await image(disk), { state: 'ok', virtualSize: MiB + 4096 })
  t.match(await refusal(create()), { code: 'image-exists' })
  t.match(await refusal(create({ volume: uuid('second'), description: '€'.repeat(200) })), { code: 'bad-request' })
  t.same((await readdir(at(disk))).length, 3, 'what does not fit is refused before anything is made')
  await remove({ image: disk, volume })
  await create({ format: 'raw', allocation: 'preallocated', diskType: 'MEMD', description: undefined })
  t.match(await readMeta(at(disk, `${volume}.meta`)), { FORMAT: 'RAW', TYPE: 'PREALLOCATED', DISKTYPE: 'MEMD', DESCRIPTION: '' })
  await remove({ image: disk })
  t.same(await readdir(join(path, 'images')), [])
  t.same((await readdir(join(path, '.vdsm-tasks', 'parts'))), [])
  t.same((await readdir(join(path, '.vdsm-tasks', 'copies'))), [])
})

t.test('a domain whose metadata are not as they should be is not touched', async t => {
  const other = uuid('domain two')
  const table: Array<[string, string, string, RegExp]> = [
    ['a wrong checksum', domainMetadata(other).replace('ROLE=Regular', 'ROLE=Master'), 'metadata-invalid', /dom_md\/metadata.*the key _SHA_CKSUM/],
    ['no checksum', domainMetadata(other).replace(/_SHA_CKSUM=.*\n/, ''), 'metadata-invalid', /the key _SHA_CKSUM is missing/],
    ['another version', domainMetadata(other, { VERSION: '4' }), 'metadata-invalid', /the key VERSION is "4"/],
    ['another domain', domainMetadata(domain), 'domain-unavailable', /belongs to domain/]
  ]
  const otherPath = await makeOvirtDomain(root, other)
  for (const [what, content, code, message] of table) {
    await writeFile(join(otherPath, 'dom_md', 'metadata'), content)
    const before = await listing(otherPath)
    t.match(await refusal(withArea({ id: other, path: otherPath, layout: 'ovirt' }, async () => {})), { code, message }, what)
    t.same(await listing(otherPath), before)
  }
  t.equal((await readFile(join(path, 'dom_md', 'metadata'), 'utf8')), domainMetadata(domain), 'nor are those of a good one ever written')
})
