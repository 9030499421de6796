import { open, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import t from 'tap'
import { startAgent } from '../helpers/agent.ts'
import { listing, temporaryDirectory } from '../helpers/directory.ts'
import { compare, identical, makeDisk, makeOld, MiB } from '../helpers/images.ts'
import { accessOf, fillQcow2, makeOvirtDomain, metaText, metaValues, noParent, putVolume, readMeta, uuid } from '../helpers/ovirt.ts'

// Copies from, to and between oVirt domains, by the agent as it is installed.

t.setTimeout(120_000)
const root = await temporaryDirectory(t)
const [one, two] = [uuid('domain one'), uuid('domain two')]
const [path, otherPath] = await Promise.all([makeOvirtDomain(root, one), makeOvirtDomain(root, two)])
const at = (image: string, ...rest: string[]) => join(path, 'images', image, ...rest)
const local = join(root, 'local')
const domains = [{ id: 'local', path: local, create: true }, { id: one, path, layout: 'ovirt' as const }, { id: two, path: otherPath, layout: 'ovirt' as const }]
const agent = await startAgent(t, { domains, copy: { clone: false, windowSeconds: 0.5 } })
const size = 12 * MiB + 700
await makeDisk(join(local, 'source.raw'), size)

const copy = (source: object, target: object, more: object = {}) => ({ kind: 'storage.copyImage', source, target, ...more })
const fromLocal = { domain: 'local', image: 'source.raw' }
const isRoot = process.getuid?.() === 0

// a chain of three, with data in each layer that hides some of the one below
const [disk, base, middle, top] = [uuid('disk'), uuid('base'), uuid('middle'), uuid('top')]
await putVolume(path, one, disk, base, async file => { await makeDisk(file, 8 * MiB, { blockBytes: MiB }) }, { CAP: 8 * MiB, VOLTYPE: 'INTERNAL' })
await putVolume(path, one, disk, middle, async file => { await fillQcow2(file, 8 * MiB, { volume: base, format: 'raw' }, [[0, 65536, 1], [3 * MiB, MiB, 2]]) }, { CAP: 8 * MiB, FORMAT: 'COW', PUUID: base, VOLTYPE: 'INTERNAL' })
await putVolume(path, one, disk, top, async file => { await fillQcow2(file, 8 * MiB, { volume: middle, format: 'qcow2' }, [[65536, 65536, 3], [3 * MiB + 65536, 131072, 0]]) }, { CAP: 8 * MiB, FORMAT: 'COW', PUUID: middle })
const chainTop = { path: at(disk, top), format: 'qcow2' as const }

t.test('a file becomes a volume, with every key, the modes and the owner that vdsm gives it', async t => {
  for (const format of ['raw', 'qcow2'] as const) {
    const target = { domain: one, image: uuid(`to ${format}`), volume: uuid(`to ${format} volume`), format }
    const task = await agent.done(`to-${format}`, copy(fromLocal, target, { verify: true }))
    t.match(task, { state: 'succeeded', result: { domain: one, image: target.image, volume: target.volume, generation: 1, verified: true } }, JSON.stringify(task.error))
    const file = at(target.image, target.volume)
    t.equal(await compare({ path: join(local, 'source.raw'), format: 'raw' }, { path: file, format }), identical)
    const capacity = 12 * MiB + 4096
    const { CTIME: _, ...meta } = await readMeta(`${file}.meta`)
    t.same(meta, { CAP: String(capacity), DESCRIPTION: '', DISKTYPE: 'DATA', DOMAIN: one, FORMAT: format === 'raw' ? 'RAW' : 'COW', GEN: '1', IMAGE: target.image, LEGALITY: 'LEGAL', PUUID: noParent, SEQ: '0', TYPE: 'SPARSE', VOLTYPE: 'LEAF' })
    t.same((await readdir(at(target.image))).sort(), [target.volume, `${target.volume}.lease`, `${target.volume}.meta`].sort(), 'no file of ours among them')
    const owner = isRoot ? '36:36' : `${process.getuid?.()}:${process.getgid?.()}`
    t.equal(await accessOf(at(target.image)), `${owner} 755`)
    for (const suffix of ['', '.meta', '.lease']) t.equal(await accessOf(`${file}${suffix}`), `${owner} 660`, suffix)
    t.match((await agent.image(one, target.image)).body, { state: 'ok', virtualSize: capacity, format, volumes: [{ copy: { phase: 'done', taskId: `to-${format}` } }] })

    t.match(await agent.done(`to-${format}-again`, copy(fromLocal, target, { verify: true })), { state: 'succeeded', result: { alreadyDone: true, generation: 1 } })
    t.match(await agent.refused(`to-${format}-other`, copy(fromLocal, target)), { status: 409, body: { code: 'target-exists', differs: ['verify'] } })
    t.match(await agent.done(`from-${format}`, copy({ domain: one, image: target.image }, { domain: 'local', image: `back-${format}.raw` })), { state: 'succeeded' })
    t.equal(await compare({ path: join(local, 'source.raw'), format: 'raw' }, { path: join(local, `back-${format}.raw`), format: 'raw' }), identical)
  }
  t.same(await agent.fixes(one), [])
  t.match((await agent.request<{ items: object[] }>('GET', '/domains')).body.items, [Object, { domain: one, layout: 'ovirt', state: 'available', bytesFree: Number }, Object])
})

t.test('a chain becomes one volume of another domain, with what its metadata say', async t => {
  const target = { domain: two, image: disk, volume: uuid('flat') }
  t.match(await agent.done('flat', copy({ domain: one, image: disk }, target, { verify: true })), { state: 'succeeded' })
  const file = join(otherPath, 'images', disk, target.volume)
  t.equal(await compare(chainTop, { path: file, format: 'qcow2' }), identical)
  t.match(await readMeta(`${file}.meta`), { FORMAT: 'COW', PUUID: noParent, DESCRIPTION: metaValues(one, disk)['DESCRIPTION'], DOMAIN: two, VOLTYPE: 'LEAF' })
  t.match(await agent.done('part', copy({ domain: one, image: disk, volume: middle }, { domain: 'local', image: 'middle.raw' })), { state: 'succeeded' })
  t.equal(await compare({ path: at(disk, middle), format: 'qcow2' }, { path: join(local, 'middle.raw'), format: 'raw' }), identical)
  t.match(await agent.done('compared', { kind: 'storage.verifyImage', domain: one, image: disk, against: { domain: two, image: disk } }), { result: { identical: true } })
})

t.test('an empty volume is written into when its generation is the one that was said', async t => {
  const [image, volume] = [uuid('given'), uuid('given volume')]
  const directory = join(otherPath, 'images', image)
  await putVolume(otherPath, two, image, volume, async file => { await writeFile(file, ''); await truncate(file, 16 * MiB) }, { CAP: 16 * MiB, GEN: 999, SEQ: 5 })
  const target = { domain: two, image, volume }
  const before = await listing(directory)
  t.match(await agent.refused('given-other', copy(fromLocal, { ...target, generation: 998 })), { status: 409, body: { code: 'generation-mismatch', generation: 999 } })
  t.match(await agent.refused('given-none', copy(fromLocal, target)), { status: 409, body: { code: 'target-exists' } })
  t.match(await agent.refused('given-format', copy(fromLocal, { ...target, generation: 999, format: 'qcow2' })), { status: 409, body: { code: 'target-exists' } })
  t.match(await agent.refused('given-absent', copy(fromLocal, { ...target, volume: uuid('nobody'), generation: 999 })), { status: 404 })
  t.same(await listing(directory), before, 'a refusal leaves everything as it was')
  const spec = copy(fromLocal, { ...target, generation: 999 }, { verify: true })
  t.match(await agent.done('given', spec), { state: 'succeeded', result: { generation: 0, bytesTotal: 16 * MiB } })
  const file = join(directory, volume)
  t.equal(await compare({ path: join(local, 'source.raw'), format: 'raw' }, { path: file, format: 'raw' }), identical)
  t.same(await readMeta(`${file}.meta`), Object.fromEntries(Object.entries(metaValues(two, image, { CAP: 16 * MiB, GEN: 0, SEQ: 5 })).map(([key, value]) => [key, String(value)])), 'LEGAL, the next generation, and all else as it was')
  t.match(await agent.done('given-again', spec), { result: { alreadyDone: true } }, 'the done record is looked at first')
  t.match(await agent.refused('given-full', copy(fromLocal, { ...target, generation: 0 })), { status: 409, body: { code: 'target-exists' } }, 'it is not empty any more')
})

t.test('what differs from its source is copied anew, also into a volume that is larger', async t => {
  const target = { domain: two, image: uuid('spoiled'), volume: uuid('spoiled volume') }
  const file = await putVolume(otherPath, two, target.image, target.volume, async file => { await writeFile(file, ''); await truncate(file, 100 * MiB) }, { CAP: 100 * MiB })
  await agent.accept('spoiled', copy(fromLocal, { ...target, generation: 7 }, { verify: true, bandwidth: 4 * MiB }))
  await agent.untilDone(two, target.image, MiB)
  const part = await open(file, 'r+')
  // of what is done
  await part.write(Buffer.alloc(4096), 0, 4096, 0)
  await part.close()
  await agent.request('PATCH', '/tasks/spoiled', { body: { bandwidth: null } })
  t.match(await agent.finished('spoiled'), { state: 'failed', error: { code: 'verification-failed' } })
  const mended = await agent.done('spoiled-mended', { kind: 'storage.mendImage', domain: two, image: target.image, volume: target.volume })
  t.match(mended, { state: 'succeeded', result: { verified: true, generation: 8 } }, mended.error?.detail ?? 'it is mended')
  t.equal(await compare({ path: join(local, 'source.raw'), format: 'raw' }, { path: file, format: 'raw' }), identical)
})

t.test('what must not be read or written is refused, and nothing is changed', async t => {
  const [image, volume] = [uuid('bad'), uuid('bad volume')]
  const file = await putVolume(path, one, image, volume, async file => { await fillQcow2(file, 8 * MiB, undefined, []) }, { CAP: 8 * MiB, FORMAT: 'COW', LEGALITY: 'ILLEGAL' })
  const refusals: Array<[what: string, prepare: () => Promise<void>, code: string]> = [
    ['an ILLEGAL source', async () => {}, 'volume-illegal'],
    ['a broken .meta', async () => { await writeFile(`${file}.meta`, metaText(metaValues(one, image)).replace('CAP=', 'CUP=')) }, 'metadata-invalid'],
    ['a parent that is missing', async () => { await writeFile(`${file}.meta`, metaText(metaValues(one, image, { FORMAT: 'COW', PUUID: base }))) }, 'metadata-invalid'],
    ['a cycle', async () => { await writeFile(`${file}.meta`, metaText(metaValues(one, image, { FORMAT: 'COW', PUUID: volume }))) }, 'metadata-invalid'],
    ['a backing file that the metadata do not know', async () => {
      await writeFile(`${file}.meta`, metaText(metaValues(one, image, { FORMAT: 'COW' })))
      await rm(file)
      const bytes = await readFile(at(disk, middle))
      await writeFile(file, bytes)
      await makeOld(file)
    }, 'image-invalid']
  ]
  for (const [what, prepare, code] of refusals) {
    await prepare()
    const before = await listing(at(image))
    const { body } = await agent.refused(`bad-${what.replaceAll(' ', '-')}`, copy({ domain: one, image, volume }, { domain: 'local', image: 'never.raw' }))
    t.equal(body.code, code, `${what}: ${body.detail}`)
    t.same(await listing(at(image)), before)
  }
  const refused = async (id: string, spec: object) => (await agent.refused(id, spec)).body.code
  t.equal(await refused('no-volume', copy(fromLocal, { domain: one, image })), 'bad-request')
  t.equal(await refused('no-uuid', copy(fromLocal, { domain: one, image: 'x.raw', volume })), 'bad-request')
  t.equal(await refused('a-volume', copy(fromLocal, { domain: 'local', image: 'x.raw', volume })), 'bad-request')
  t.equal(await refused('a-generation', copy(fromLocal, { domain: 'local', image: 'x.raw', generation: 1 })), 'bad-request')
  t.equal(await refused('replaced', copy(fromLocal, { domain: one, image, volume }, { onExisting: 'replace' })), 'not-supported')
  t.notOk((await readdir(local)).includes('never.raw'))
  await rm(at(image), { recursive: true })
})

t.test('SIGKILL in the middle: ILLEGAL with its fix, which any host can do', async t => {
  const target = { domain: one, image: uuid('killed'), volume: uuid('killed volume') }
  const file = at(target.image, target.volume)
  const first = await startAgent(t, { domains, hostId: 'dying', copy: { clone: false, windowSeconds: 0.5, parallelWindows: 1 } })
  await first.accept('killed', copy(fromLocal, { ...target, format: 'qcow2' }, { bandwidth: 1 }))
  await first.untilDone(one, target.image, 1)
  t.match(await readMeta(`${file}.meta`), { LEGALITY: 'ILLEGAL', GEN: '0' })
  t.match((await agent.image(one, target.image)).body, { state: 'copying', volumes: [{ state: 'copying', info: { legality: 'ILLEGAL', status: 'ILLEGAL' }, copy: { host: { id: 'dying' } } }] })
  t.match(await agent.refused('busy', { kind: 'storage.deleteImage', domain: one, image: target.image, volume: target.volume }), { status: 409, body: { code: 'resource-busy' } })
  await first.kill()
  const [broken, ...others] = await agent.fixes(one)
  t.same(others, [])
  t.match(broken, { image: target.image, volume: target.volume, state: 'interrupted', fixes: [{ action: 'mend', task: { kind: 'storage.mendImage', volume: target.volume } }, { action: 'clean' }] })
  t.match(await agent.refused('as-source', copy(target, { domain: 'local', image: 'never.raw' })), { status: 409, body: { code: 'image-interrupted' } })
  t.match(await agent.copies(one).then(copies => copies.filter(({ image }) => image === target.image)), [{ volume: target.volume, state: 'interrupted' }])
  t.match(await agent.done('mended', { kind: 'storage.mendImage', domain: one, image: target.image, volume: target.volume }), { state: 'succeeded', result: { epoch: 2, generation: 1 } })
  t.equal(await compare({ path: join(local, 'source.raw'), format: 'raw' }, { path: file, format: 'qcow2' }), identical)
  t.match(await readMeta(`${file}.meta`), { LEGALITY: 'LEGAL', GEN: '1' })
  t.match(await agent.done('deleted', { kind: 'storage.deleteImage', domain: one, image: target.image, volume: target.volume }), { state: 'succeeded' })
  t.match(await agent.image(one, target.image), { status: 404 })
})
