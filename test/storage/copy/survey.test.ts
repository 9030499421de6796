import { execFileSync } from 'node:child_process'
import { closeSync, constants, openSync } from 'node:fs'
import { open, stat } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { openArea, prepareArea, type Area } from '../../../src/storage/area.ts'
import { openSource, type Source } from '../../../src/storage/copy/source.ts'
import { SpaceCount, surveySource } from '../../../src/storage/copy/survey.ts'
import { sourceChain } from '../../../src/storage/layout/source-chain.ts'
import { closeFd } from '../../../src/system/directory.ts'
import { temporaryDirectory } from '../../helpers/directory.ts'
import { KiB, makeDisk, MiB, sh } from '../../helpers/images.ts'
import { needs } from '../../helpers/needs.ts'

needs('qemu-img')

t.setTimeout(300_000)

const { signal } = new AbortController()
const top = await temporaryDirectory(t)
const place = { id: 'local', path: join(top, 'domain') }
await prepareArea(place, true)
const area: Area = await openArea(place)
t.teardown(async () => { await area.close() })
const at = (name: string) => join(place.path, name)

async function openImage (t: Test, image: string, format: 'raw' | 'qcow2'): Promise<Source> {
  const source = await openSource(area, await sourceChain(area, { domain: 'local', image, format }))
  t.teardown(async () => { await Promise.all(source.files.map(async ({ fd }) => { await closeFd(fd) })) })
  return source
}

const allocated = async (path: string) => (await stat(path)).blocks * 512

/** Sources whose allocated blocks say little about what a copy of them takes up. */
const sources = {
  'sparse.raw': async path => {
    await sh('qemu-img', 'create', '-q', '-f', 'raw', path, '96M')
    await sh('qemu-io', '-f', 'raw', '-c', 'write -P 5 1M 9M', '-c', 'write -P 5 50M 10001920', path)
  },
  'compressed.qcow2': async path => {
    // text: it shrinks to a fraction
    const file = await open(at('text.raw'), 'w')
    await file.write(Buffer.alloc(48 * MiB, 'all work and no play '))
    await file.close()
    await sh('qemu-img', 'convert', '-c', '-O', 'qcow2', at('text.raw'), path)
  },
  'chained.qcow2': async path => {
    // the overlay has all of its base once more
    await makeDisk(at('base.raw'), 64 * MiB)
    await sh('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'base.raw', '-F', 'raw', path)
    await sh('qemu-io', '-f', 'qcow2', '-c', 'write -P 7 0 60M', path)
  },
  'preallocated.raw': async path => {
    await sh('qemu-img', 'create', '-q', '-f', 'raw', '-o', 'preallocation=falloc', path, '96M')
    await sh('qemu-io', '-f', 'raw', '-c', 'write -P 3 8M 16M', path)
  },
  'preallocated.qcow2': async path => {
    await sh('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', 'preallocation=falloc', path, '96M')
    await sh('qemu-io', '-f', 'qcow2', '-c', 'write -P 3 8M 16M', path)
  },
  'snapshotted.qcow2': async path => {
    await sh('qemu-img', 'create', '-q', '-f', 'qcow2', path, '64M')
    for (const pattern of [1, 2, 3]) {
      await sh('qemu-io', '-f', 'qcow2', '-c', `write -P ${pattern} 0 16M`, path)
      await sh('qemu-img', 'snapshot', '-c', `snapshot ${pattern}`, path)
    }
  },
  'fragmented.raw': async path => {
    const file = await open(path, 'w')
    await file.truncate(64 * MiB)
    const block = Buffer.alloc(4 * KiB, 'data')
    for (let index = 0; index < 2000; index++) await file.write(block, 0, block.length, index * 32 * KiB)
    await file.sync()
    await file.close()
  }
} satisfies Record<string, (path: string) => Promise<void>>

let checked = 0
for (const [image, make] of Object.entries(sources)) {
  t.test(`what a copy of ${image} takes up is known to 5 % before it begins`, async t => {
    await make(at(image))
    const source = await openImage(t, image, image.endsWith('.raw') ? 'raw' : 'qcow2')
    const forms = [['raw', []], ['qcow2', []], ['qcow2', ['-o', 'cluster_size=4k']]] as const
    // before anything is copied: what was read of an unwritten range counts as data while it is in the page cache
    const surveys = await Promise.all(forms.map(async ([format, options]) => {
      const clusterSize = options.length === 0 ? undefined : 4 * KiB
      return await surveySource(source, { format, allocation: 'sparse', virtualSize: source.virtualSize, clusterSize }, { signal })
    }))
    for (const [index, [format, options]] of forms.entries()) {
      const { bytesNeeded, bytesToMove } = surveys[index] ?? { bytesNeeded: NaN, bytesToMove: NaN }
      const copy = at('copy')
      execFileSync('qemu-img', ['convert', '-O', format, ...options, at(image), copy])
      execFileSync('sync', ['-f', copy])
      const real = await allocated(copy)
      t.ok(Math.abs(bytesNeeded - real) <= Math.max(real * 0.05, 512 * KiB), `${format} ${options.join(' ')}: ${bytesNeeded} estimated, ${real} taken`)
      t.ok(bytesToMove <= source.virtualSize && bytesToMove > 0)
      checked++
    }
  })
}

t.test('every source was copied in every form', async t => { t.equal(checked, 21) })

t.test('what is done is not moved again, but takes up its space', async t => {
  await makeDisk(at('half.raw'), 60 * MiB)
  const source = await openImage(t, 'half.raw', 'raw')
  const shape = { format: 'raw', allocation: 'sparse', virtualSize: 60 * MiB } as const
  const whole = await surveySource(source, shape, { signal })
  const rest = await surveySource(source, shape, { done: [[0, 30 * MiB]], signal })
  t.equal(rest.bytesNeeded, whole.bytesNeeded)
  t.ok(rest.bytesToMove < whole.bytesToMove && rest.bytesToMove > 0)
  t.equal((await surveySource(source, shape, { done: [[0, 60 * MiB]], signal })).bytesToMove, 0)
})

t.test('a preallocated target takes up all of its disk, whatever the source has', async t => {
  const count = new SpaceCount({ format: 'raw', allocation: 'preallocated', virtualSize: 10 * MiB, clusterBytes: 1 })
  t.strictSame(count.survey(), { bytesToMove: 0, bytesNeeded: 10 * MiB })
  const tables = new SpaceCount({ format: 'qcow2', allocation: 'preallocated', virtualSize: 1024 * MiB, clusterBytes: 64 * KiB }).survey().bytesNeeded
  await sh('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', 'preallocation=falloc', at('whole.qcow2'), '1G')
  t.ok(Math.abs(tables - await allocated(at('whole.qcow2'))) <= MiB, `${tables}`)
})

t.test('the tables of a qcow2 target count: one of 64 KiB for each 512 MiB that have any data', async t => {
  const extent = (start: number) => ({ start, length: 64 * KiB, zero: false, data: true, present: true, depth: 0 })
  const count = new SpaceCount({ format: 'qcow2', allocation: 'sparse', virtualSize: 1024 * 1024 * MiB, clusterBytes: 64 * KiB })
  const empty = count.survey().bytesNeeded
  count.add(Array.from({ length: 100 }, (_, index) => extent(index * 1024 * MiB)))
  t.equal(count.survey().bytesNeeded - empty, 200 * 64 * KiB, 'a cluster and a table each')
})

t.test('blocks and clusters that two extents share count once', async t => {
  const extent = (start: number, length: number) => ({ start, length, zero: false, data: true, present: true, depth: 0 })
  const raw = new SpaceCount({ format: 'raw', allocation: 'sparse', virtualSize: MiB, clusterBytes: 1 })
  raw.add([extent(0, 512), extent(1024, 512)])
  raw.add([extent(2048, 4096)])
  t.strictSame(raw.survey(), { bytesToMove: 5120, bytesNeeded: 8192 })
  t.strictSame(raw.survey({ virtualBytes: 100, dataBytes: 4096 }), { bytesToMove: 5220, bytesNeeded: 8292 }, 'no more than is left of the disk')
})

// the descriptor of a file that nobody else opens
t.test('an empty disk has nothing to move', async t => {
  const fd = openSync(at('empty.raw'), constants.O_CREAT | constants.O_RDWR)
  closeSync(fd)
  const source = await openImage(t, 'empty.raw', 'raw')
  const { bytesToMove, bytesNeeded } = await surveySource(source, { format: 'raw', allocation: 'sparse', virtualSize: 0 }, { signal })
  t.strictSame([bytesToMove, bytesNeeded], [0, 0])
})
