import { open, rm, stat, truncate, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import type { ImageStatus } from '../../../src/api/image.ts'
import { prepareArea, withArea, type DomainPlace } from '../../../src/storage/area.ts'
import { layouts } from '../../../src/storage/domain/layouts.ts'
import { newerBases } from '../../../src/storage/layout/soundness.ts'
import { temporaryDirectory } from '../../helpers/directory.ts'
import { KiB, makeDisk, MiB, sh } from '../../helpers/images.ts'
import { needs } from '../../helpers/needs.ts'
import { fillQcow2, makeOvirtDomain, putVolume, uuid } from '../../helpers/ovirt.ts'

needs('qemu-img')

// The same as test/integration/soundness.test.ts asks an agent, without one.

const root = await temporaryDirectory(t)
const local: DomainPlace = { id: 'local', path: join(root, 'images') }
await prepareArea(local, true)
const at = (image: string) => join(local.path, image)
const statusOf = async (place: DomainPlace, image: string): Promise<ImageStatus> =>
  await withArea(place, async area => await layouts[area.layout].image(area, image, undefined))
const overlay = async (name: string, base: string, format = 'qcow2') => {
  await sh('qemu-img', 'create', '-q', '-f', 'qcow2', '-u', '-F', format, '-b', base, at(name), '8M')
}

t.test('a file of a chain that is missing or damaged is found, wherever in it', async t => {
  await makeDisk(at('base.img'), MiB)
  await overlay('middle.qcow2', 'base.img', 'raw')
  await overlay('top.qcow2', 'middle.qcow2')
  t.match(await statusOf(local, 'top.qcow2'), { state: 'ok' })
  await rm(at('base.img'))
  t.match(await statusOf(local, 'middle.qcow2'), { state: 'illegal', detail: /base\.img is missing/ })
  t.match(await statusOf(local, 'top.qcow2'), { state: 'illegal', detail: /middle\.qcow2 is not used: its backing file base\.img is missing/ })
})

t.test('what an overlay declares decides how its base is looked at', async t => {
  await sh('qemu-img', 'create', '-q', '-f', 'qcow2', at('cloud.img'), '8M')
  await overlay('guest.qcow2', 'cloud.img')
  await truncate(at('cloud.img'), 128 * KiB)
  t.match(await statusOf(local, 'guest.qcow2'), { state: 'illegal', detail: /cloud\.img is not used: it is cut off/ })
  const file = await open(at('cloud.img'), 'r+')
  await file.write(Buffer.alloc(512), 0, 512, 0)
  await file.close()
  await overlay('raw.qcow2', 'cloud.img', 'raw')
  t.match(await statusOf(local, 'raw.qcow2'), { state: 'ok' })
})

t.test('of times that are the same, none is newer', async t => {
  const times = (base: bigint, top: bigint) => newerBases([{ name: 'top', modified: top }, { name: 'base', modified: base }])
  t.same([times(1n, 2n), times(2n, 2n)], [[], []])
  t.match(times(2_000_000n, 1_000_000n), [/^base was written \(1970-01-01T00:00:00\.002Z\) after top \(1970-01-01T00:00:00\.001Z\)/])
  t.same(newerBases([{ name: 'alone', modified: 1n }]), [])
})

t.test('a volume that is based on a damaged one cannot be used', async t => {
  const domain = uuid('domain')
  const place: DomainPlace = { id: domain, path: await makeOvirtDomain(root, domain), layout: 'ovirt' }
  const [image, base, top] = [uuid('image'), uuid('base'), uuid('top')]
  const file = (volume: string) => join(place.path, 'images', image, volume)
  await putVolume(place.path, domain, image, base, async path => { await fillQcow2(path, MiB, undefined, [[0, 65536, 1]]) }, { FORMAT: 'COW', VOLTYPE: 'INTERNAL' })
  await putVolume(place.path, domain, image, top, async path => { await fillQcow2(path, MiB, { volume: base, format: 'qcow2' }, [[65536, 65536, 2]]) }, { FORMAT: 'COW', PUUID: base })
  t.match(await statusOf(place, image), { state: 'ok', volumes: [{ state: 'ok' }, { state: 'ok' }] })
  const later = new Date('2026-01-02')
  await utimes(file(base), later, later)
  t.match(await statusOf(place, image), { state: 'ok', warnings: [new RegExp(`^${base} was written`)] })
  await truncate(file(base), (await stat(file(base))).size - 65536)
  t.match(await statusOf(place, image), { state: 'illegal', volumes: [{ volume: base, state: 'illegal', detail: /cut off/ }, { volume: top, state: 'illegal', detail: /based on one that cannot be used/ }] })
})
