import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { copySpec, mendSpec, stalled, startAgent } from '../helpers/agent.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { makeDisk, makeOld, MiB, sh } from '../helpers/images.ts'
import { MountSpace, unlessRoot } from '../helpers/mount-space.ts'
import { needs } from '../helpers/needs.ts'
import { fillQcow2, makeOvirtDomain, putVolume, uuid } from '../helpers/ovirt.ts'

needs('mkfs.xfs')

// Internal snapshots and persistent bitmaps are no part of the disk that a guest sees: no copy has them, and each says so.

t.setTimeout(300_000)

const directory = await temporaryDirectory(t)

const addSnapshot = async (path: string, name: string) => { await sh('qemu-img', 'snapshot', '-c', name, path) }
const addBitmap = async (path: string, name: string) => { await sh('qemu-img', 'bitmap', '-f', 'qcow2', '--add', path, name) }

/** What qemu-img finds in a file. */
async function extrasOf (path: string): Promise<{ snapshots: string[], bitmaps: string[] }> {
  interface Info { snapshots?: Array<{ name: string }>, 'format-specific': { data: { bitmaps?: Array<{ name: string }> } } }
  const info = JSON.parse(await sh('qemu-img', 'info', '--output=json', path)) as Info
  return { snapshots: (info.snapshots ?? []).map(({ name }) => name), bitmaps: (info['format-specific'].data.bitmaps ?? []).map(({ name }) => name) }
}

/** A base and an overlay, in which a bitmap goes on that was begun in the base. */
async function makeImages (path: (name: string) => string): Promise<void> {
  await makeDisk(path('disk.raw'), 8 * MiB, { blockBytes: MiB })
  await sh('qemu-img', 'convert', '-O', 'qcow2', path('disk.raw'), path('base.qcow2'))
  await addSnapshot(path('base.qcow2'), 'before the update')
  await addSnapshot(path('base.qcow2'), 'after it')
  await addBitmap(path('base.qcow2'), 'daily')
  await fillQcow2(path('top.qcow2'), 8 * MiB, { volume: 'base.qcow2', format: 'qcow2' }, [[0, 65536, 3]])
  await addBitmap(path('top.qcow2'), 'daily')
  await addBitmap(path('top.qcow2'), 'weekly')
  await sh('qemu-img', 'convert', '-O', 'qcow2', path('disk.raw'), path('bitmaps.qcow2'))
  await addBitmap(path('bitmaps.qcow2'), 'alone')
  // nobody's terminal obeys it
  await addBitmap(path('bitmaps.qcow2'), 'red\x1b[31m')
  await sh('qemu-img', 'convert', '-O', 'qcow2', path('disk.raw'), path('plain.qcow2'))
  for (const name of ['base', 'top', 'bitmaps', 'plain']) await makeOld(path(`${name}.qcow2`))
}

const expected = {
  'base.qcow2': { snapshots: ['before the update', 'after it'], bitmaps: ['daily'] },
  'top.qcow2': { snapshots: ['before the update', 'after it'], bitmaps: ['daily', 'weekly'] },
  'bitmaps.qcow2': { snapshots: [], bitmaps: ['alone', 'red\\u001b[31m'] },
  'plain.qcow2': undefined,
  'disk.raw': undefined
}

interface Plan { plan: { dropped?: object } }

for (const clones of [true, false]) {
  t.test(`what a copy drops is told and can be refused, where files are ${clones ? '' : 'not '}cloned`, { skip: clones && unlessRoot }, async t => {
    const at = join(directory, `clones-${clones}`)
    await mkdir(at)
    const space = clones ? await MountSpace.make(t) : undefined
    await space?.mountFile(`${at}.img`, 600 * MiB, ['mkfs.xfs', '-q', '-m', 'reflink=1'], at)
    const agent = await startAgent(t, { domains: [{ id: 'local', path: at, create: true }], copy: { clone: clones }, ...(space !== undefined && { under: space.enter }) })
    const path = (name: string) => space === undefined ? join(at, name) : space.path(join(at, name))
    await makeImages(path)
    for (const [image, dropped] of Object.entries(expected)) {
      // only a copy of the same format can be a clone
      for (const target of image.endsWith('.raw') ? ['copy.raw'] : clones ? ['copy.qcow2'] : ['copy.raw', 'copy.qcow2']) {
        const name = `${image}-${target}`
        const spec = copySpec(image, `${name}`)
        const body = copySpec(image, name, { refuseLoss: true })
        if (dropped !== undefined) {
          for (const where of ['refused', 'refused-dry?dryRun=true']) {
            const { status, body: problem } = await agent.refused(where, body)
            t.match([status, problem.code], [409, 'would-lose-data'], `${name}: ${problem.detail}`)
            t.strictSame({ snapshots: problem['snapshots'], bitmaps: problem['bitmaps'] }, dropped)
          }
          t.equal((await agent.image('local', name)).status, 404, 'nothing was made')
        }
        t.strictSame((await agent.request<Plan>('PUT', '/tasks/dry?dryRun=true', { body: spec })).body.plan.dropped, dropped, `${name}: dry run`)
        for (const again of [false, true]) {
          const { result } = await agent.done(`${name}-${again}`, again && dropped === undefined ? body : spec)
          t.match(result, again ? { alreadyDone: true } : { bytesTotal: 8 * MiB }, name)
          t.strictSame(result !== undefined && 'dropped' in result ? result.dropped : undefined, dropped, `${name}: result`)
        }
        if (dropped !== undefined) t.match((await agent.refused(`${name}-late`, body)).body, { code: 'would-lose-data' }, 'a copy that is complete is not confirmed as one that lost nothing')
        if (target === 'copy.qcow2') t.strictSame(await extrasOf(path(name)), { snapshots: [], bitmaps: [] })
      }
    }
    const { result } = await agent.done('as-raw', copySpec('', 'as-raw.raw', { source: { domain: 'local', image: 'base.qcow2', format: 'raw' }, refuseLoss: true }))
    t.notOk(result !== undefined && 'dropped' in result, 'what is copied byte for byte loses nothing')
  })
}

t.test('a copy that was continued tells it, too', async t => {
  const path = join(directory, 'continued')
  const agent = await startAgent(t, { domains: [{ id: 'local', path, create: true }], copy: { clone: false } })
  await makeImages(name => join(path, name))
  await agent.accept('first', copySpec('top.qcow2', 'copy.raw', { bandwidth: stalled }))
  await agent.request('DELETE', '/tasks/first')
  await agent.finished('first')
  t.match((await agent.refused('refused', copySpec('top.qcow2', 'copy.raw', { refuseLoss: true }))).body, { code: 'would-lose-data' })
  t.strictSame((await agent.request<Plan>('PUT', '/tasks/dry?dryRun=true', { body: mendSpec('copy.raw') })).body.plan.dropped, expected['top.qcow2'])
  const task = await agent.done('mend', mendSpec('copy.raw'))
  t.match(task, { state: 'succeeded', result: { dropped: expected['top.qcow2'] } }, JSON.stringify(task.error))
})

t.test('a chain that is kept drops nothing; the same chain as one volume does', async t => {
  const [one, two] = [uuid('dropped one'), uuid('dropped two')]
  const [path, otherPath] = await Promise.all([makeOvirtDomain(directory, one), makeOvirtDomain(directory, two)])
  const agent = await startAgent(t, { domains: [{ id: one, path, layout: 'ovirt' }, { id: two, path: otherPath, layout: 'ovirt' }] })
  const [image, base, leaf] = [uuid('dropped image'), uuid('dropped base'), uuid('dropped leaf')]
  await putVolume(path, one, image, base, async file => {
    await fillQcow2(file, MiB, undefined, [[0, 65536, 1]])
    await addBitmap(file, 'daily')
  }, { CAP: MiB, FORMAT: 'COW', VOLTYPE: 'INTERNAL' })
  await putVolume(path, one, image, leaf, async file => {
    await fillQcow2(file, MiB, { volume: base, format: 'qcow2' }, [[65536, 65536, 2]])
    await addBitmap(file, 'daily')
    await addSnapshot(file, 'inner')
  }, { CAP: MiB, FORMAT: 'COW', PUUID: base })
  const spec = { kind: 'storage.copyImage', source: { domain: one, image }, target: { domain: two, image } }
  const kept = await agent.done('keep', { ...spec, chain: 'keep', refuseLoss: true })
  t.match(kept, { state: 'succeeded' }, JSON.stringify(kept.error))
  t.notOk(kept.result !== undefined && 'dropped' in kept.result)
  t.strictSame(await extrasOf(join(otherPath, 'images', image, base)), { snapshots: [], bitmaps: ['daily'] })
  t.strictSame(await extrasOf(join(otherPath, 'images', image, leaf)), { snapshots: ['inner'], bitmaps: ['daily'] })
  const flat = { ...spec, target: { domain: two, image: uuid('dropped flat'), volume: uuid('dropped flat') } }
  t.match((await agent.refused('refused', { ...flat, refuseLoss: true })).body, { code: 'would-lose-data' })
  t.match(await agent.done('flat', flat), { state: 'succeeded', result: { dropped: { snapshots: ['inner'], bitmaps: ['daily'] } } })
})
