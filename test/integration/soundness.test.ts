import { open, rm, stat, symlink, truncate, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import type { ImageStatus } from '../../src/api/image.ts'
import { copySpec, startAgent } from '../helpers/agent.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { Empty } from '../helpers/empty.ts'
import { KiB, makeDisk, MiB, sh } from '../helpers/images.ts'
import { fillQcow2, makeOvirtDomain, putVolume, uuid } from '../helpers/ovirt.ts'
import { until } from '../helpers/processes.ts'

// What the status tells of images that cannot be used, or may be damaged, and that a copy refuses the former.

t.setTimeout(300_000)

const root = await temporaryDirectory(t)
const domain = uuid('domain')
const ovirt = await makeOvirtDomain(root, domain)
const other = uuid('other domain')
const otherPath = await makeOvirtDomain(root, other)
const path = join(root, 'images')
const agent = await startAgent(t, { domains: [{ id: 'local', path, create: true }, { id: domain, path: ovirt, layout: 'ovirt' }, { id: other, path: otherPath, layout: 'ovirt' }] })
const at = (image: string) => join(path, image)

/** What is told may be a second old. */
const freshStatus = async (of: string, image: string): Promise<ImageStatus> => {
  const since = Date.now()
  return await until(async () => {
    const { body } = await agent.image(of, image)
    return Date.parse(body.observedAt) > since && body
  })
}
const statusOf = async (image: string) => await freshStatus('local', image)
const overlay = async (name: string, base: string, format = 'qcow2') => {
  await sh('qemu-img', 'create', '-q', '-f', 'qcow2', '-u', '-F', format, '-b', base, at(name), '8M')
}
const isNoSource = async (image: string, detail: RegExp) => {
  const dry = await agent.request('PUT', '/tasks/dry?dryRun=true', { body: copySpec(image, 'never.raw') })
  t.match(dry, { status: 422, body: { code: 'image-invalid', detail } }, `${image} is no source`)
}

/** Sets when a file was written last, in minutes of one day. */
const writtenAt = async (file: string, minute: number) => {
  const time = new Date(Date.UTC(2026, 0, 1, 0, minute))
  await utimes(file, time, time)
}

t.test('an overlay whose base is missing is illegal, and the status names the base', async t => {
  await makeDisk(at('base.img'), MiB)
  await overlay('middle.qcow2', 'base.img', 'raw')
  await overlay('top.qcow2', './middle.qcow2')
  await overlay('absolute.qcow2', at('middle.qcow2'))
  for (const image of ['middle.qcow2', 'top.qcow2', 'absolute.qcow2']) {
    const status = await statusOf(image)
    t.match(status, { state: 'ok', virtualSize: 8 * MiB, fixes: Empty }, image)
    t.notOk('warnings' in status)
  }
  await rm(at('base.img'))
  t.match(await statusOf('middle.qcow2'), { state: 'illegal', detail: /backing file base\.img is missing/, virtualSize: 8 * MiB, fixes: Empty })
  for (const image of ['top.qcow2', 'absolute.qcow2']) {
    t.match(await statusOf(image), { state: 'illegal', detail: /middle\.qcow2 is not used: its backing file base\.img is missing/ }, image)
    await isNoSource(image, /base\.img is missing/)
  }
  await rm(at('middle.qcow2'))
  t.match(await statusOf('top.qcow2'), { state: 'illegal', detail: /its backing file middle\.qcow2 is missing/ })
  await isNoSource('top.qcow2', /middle\.qcow2 is missing/)
})

t.test('a base that is damaged makes its overlays illegal, too', async t => {
  await sh('qemu-img', 'create', '-q', '-f', 'qcow2', at('spoilt.qcow2'), '8M')
  await overlay('over-spoilt.qcow2', 'spoilt.qcow2')
  t.match(await statusOf('over-spoilt.qcow2'), { state: 'ok' })
  const file = await open(at('spoilt.qcow2'), 'r+')
  await file.write(Buffer.from([2]), 0, 1, 79)
  await file.close()
  t.match(await statusOf('over-spoilt.qcow2'), { state: 'illegal', detail: /over-spoilt\.qcow2 is based on one that cannot be used.*spoilt\.qcow2.*marked as corrupt/ })
  await isNoSource('over-spoilt.qcow2', /marked as corrupt/)

  await overlay('loop.qcow2', 'pool.qcow2')
  await overlay('pool.qcow2', 'loop.qcow2')
  t.match(await statusOf('loop.qcow2'), { state: 'illegal', detail: /form a loop/ })
})

t.test('an image that is shorter than its tables say is illegal, and no source', async t => {
  for (const [image, options] of [['cut.qcow2', []], ['packed.qcow2', ['-c']]] as const) {
    await makeDisk(at('whole.raw'), 4 * MiB)
    await sh('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', ...options, at('whole.raw'), at(image))
    await sh('qemu-img', 'snapshot', '-c', 'before', at(image))
    t.match(await statusOf(image), { state: 'ok' })
    const { size } = await stat(at(image))
    for (const bytes of [size - 1, size - 128 * KiB, size / 2, 192 * KiB]) {
      await truncate(at(image), Math.floor(bytes))
      t.match(await statusOf(image), { state: 'illegal', detail: /cut off/ }, `${image} of ${bytes} bytes`)
      await isNoSource(image, /cut off/)
    }
  }
})

t.test('a base that was written after its overlay is warned of, in the status and the dry run', async t => {
  await makeDisk(at('old.raw'), MiB)
  await overlay('young.qcow2', 'old.raw', 'raw')
  await writtenAt(at('young.qcow2'), 2)
  for (const [minute, isNewer] of [[1, false], [2, false], [3, true]] as const) {
    await writtenAt(at('old.raw'), minute)
    const status = await statusOf('young.qcow2')
    const { status: code, body } = await agent.request<{ plan: object }>('PUT', '/tasks/dry?dryRun=true', { body: copySpec('young.qcow2', 'never.raw') })
    t.match([status.state, code], ['ok', 200])
    for (const told of [status, body.plan]) {
      if (isNewer) t.match(told, { warnings: [/^old\.raw was written \(2026-01-01T00:03:00\.000Z\) after young\.qcow2 \(2026-01-01T00:02:00\.000Z\)/] })
      else t.notOk('warnings' in told)
    }
  }
  const { body } = await agent.request<{ plan: object }>('PUT', '/tasks/dry?dryRun=true', { body: copySpec('old.raw', 'never.raw') })
  t.notOk('warnings' in body.plan, 'it has no base itself')
  t.match(await agent.done('copy', copySpec('young.qcow2', 'young.raw')), { state: 'succeeded' }, 'it is copied all the same')
})

t.test('a base that is not looked at is warned of', async t => {
  await overlay('outer.qcow2', '/elsewhere/base.raw', 'raw')
  t.match(await statusOf('outer.qcow2'), { state: 'ok', warnings: [/"\/elsewhere\/base\.raw" of outer\.qcow2 does not lie beside it in the domain/] })
  await symlink('/elsewhere/base.raw', at('link.raw'))
  await overlay('linked.qcow2', 'link.raw', 'raw')
  t.match(await statusOf('linked.qcow2'), { state: 'ok', warnings: [/"link\.raw" of linked\.qcow2 is a symbolic link/] })
})

t.test('a name decides nothing where a format is declared', async t => {
  await sh('qemu-img', 'create', '-q', '-f', 'qcow2', at('cloud.img'), '8M')
  await overlay('guest.qcow2', 'cloud.img', 'qcow2')
  t.match(await statusOf('guest.qcow2'), { state: 'ok' })
  await truncate(at('cloud.img'), 128 * KiB)
  t.match(await statusOf('guest.qcow2'), { state: 'illegal', detail: /cloud\.img is not used: it is cut off/ })
  t.match(await statusOf('cloud.img'), { state: 'ok', format: 'raw', virtualSize: 128 * KiB }, 'nothing says that it is not raw')
  t.match(await agent.request('GET', '/domains/local/images/cloud.img?format=qcow2'), { body: { state: 'illegal', detail: /cut off/ } })
})

t.test('of the volumes of an image, each that cannot be used says why', async t => {
  const [image, base, middle, top] = [uuid('image'), uuid('base'), uuid('middle'), uuid('top')]
  const file = (volume: string) => join(ovirt, 'images', image, volume)
  await putVolume(ovirt, domain, image, base, async path => { await makeDisk(path, MiB) }, { VOLTYPE: 'INTERNAL' })
  await putVolume(ovirt, domain, image, middle, async path => { await fillQcow2(path, MiB, { volume: base, format: 'raw' }, [[0, 65536, 1]]) }, { FORMAT: 'COW', PUUID: base, VOLTYPE: 'INTERNAL' })
  await putVolume(ovirt, domain, image, top, async path => { await fillQcow2(path, MiB, { volume: middle, format: 'qcow2' }, [[65536, 65536, 2]]) }, { FORMAT: 'COW', PUUID: middle })
  const states = async () => {
    const body = await freshStatus(domain, image)
    return { ...body, byVolume: Object.fromEntries((body.volumes ?? []).map(({ volume, state, detail = '' }) => [volume, `${state} ${detail}`])) }
  }
  const copy = { kind: 'storage.copyImage', source: { domain, image, volume: top }, target: { domain: 'local', image: 'never.raw' } }
  for (const [volume, minute] of [[base, 1], [middle, 2], [top, 3]] as const) await writtenAt(file(volume), minute)
  const good = await states()
  t.match(good, { state: 'ok' })
  t.notOk('warnings' in good)

  await writtenAt(file(base), 4)
  t.match(await states(), { state: 'ok', warnings: [new RegExp(`^${base} was written .* after ${middle}`)] })
  t.match(await agent.request('PUT', '/tasks/dry?dryRun=true', { body: copy }), { status: 200, body: { plan: { warnings: [new RegExp(`^${image}/${base} was written`)] } } })

  const kept = { ...copy, chain: 'keep', target: { domain: other, image } }
  t.match(await agent.request('PUT', '/tasks/dry?dryRun=true', { body: kept }), { status: 200, body: { plan: { warnings: [new RegExp(`^${image}/${base} was written`)] } } }, 'of a chain that is kept, too')

  const { size } = await stat(file(middle))
  await truncate(file(middle), size - 65536)
  t.match((await states()).byVolume, { [base]: /^ok/, [middle]: /^illegal .*cut off/, [top]: /^illegal .*based on one that cannot be used.*cut off/ })
  for (const body of [copy, kept]) t.match(await agent.request('PUT', '/tasks/dry?dryRun=true', { body }), { status: 422, body: { code: 'image-invalid', detail: /cut off/ } })

  await rm(file(base))
  t.match((await states()).byVolume, { [middle]: new RegExp(`^illegal .*the data of its parent ${base} is missing`), [top]: /^illegal .*is missing/ })
  await rm(file(`${base}.meta`))
  await rm(file(`${base}.lease`))
  const orphan = await states()
  t.match(orphan, { state: 'illegal', fixes: Empty, byVolume: { [middle]: /^illegal .*PUUID.*not there/, [top]: /^illegal .*not there/ } })
})
