import { constants, closeSync, openSync, statSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { compareCommand, mapCommand } from '../../../src/qemu/commands.ts'
import { parseMap, type Extent } from '../../../src/qemu/map.ts'
import { blockStatus } from '../../../src/storage/copy/block-status.ts'
import { allLayers, layerFds, layerNodes, layersOf } from '../../../src/storage/copy/layers.ts'
import type { Source } from '../../../src/storage/copy/source.ts'
import { runOk } from '../../../src/system/run.ts'
import { temporaryDirectory } from '../../helpers/directory.ts'
import { KiB, MiB, sh } from '../../helpers/images.ts'
import { needs } from '../../helpers/needs.ts'

needs('qemu-img')

t.setTimeout(300_000)

const { signal } = new AbortController()
const cluster = 64 * KiB

/** What one layer of a chain gets, in clusters. */
interface LayerPlan {
  clusters: number
  writes: Array<{ at: number, length: number, zero: boolean }>
}

const layer = fc.record({
  clusters: fc.integer({ min: 4, max: 40 }),
  writes: fc.array(fc.record({ at: fc.nat(40), length: fc.integer({ min: 1, max: 6 }), zero: fc.boolean() }), { maxLength: 4 })
})

/** Makes the layers, the base first, and opens them as a source: top first. */
async function makeChain (t: Test, layers: readonly LayerPlan[]): Promise<Source> {
  const path = await temporaryDirectory(t)
  const names = layers.map((_, index) => join(path, `${index}.qcow2`))
  for (const [index, { clusters, writes }] of layers.entries()) {
    const below = names[index - 1]
    const name = names[index] ?? ''
    await sh('qemu-img', 'create', '-q', '-f', 'qcow2', ...below === undefined ? [] : ['-b', below, '-F', 'qcow2'], name, String(clusters * cluster))
    const commands = writes.flatMap(({ at, length, zero }) => {
      const fits = Math.min(length, clusters - at)
      return fits <= 0 ? [] : ['-c', `write ${zero ? '-z' : `-P ${index + 1}`} ${at * cluster} ${fits * cluster}`]
    })
    if (commands.length > 0) await sh('qemu-io', '-f', 'qcow2', ...commands, name)
  }
  const files = layers.map(({ clusters }, index) => {
    const name = names[index] ?? ''
    const { size } = statSync(name)
    const identity = { inode: String(index), size, modified: '0', changed: '0' }
    const fd = openSync(name, constants.O_RDONLY)
    t.teardown(() => { closeSync(fd) })
    const endBytes = Math.ceil(size / cluster) * cluster
    return { image: name, format: 'qcow2' as const, identity, fd, endBytes, virtualSize: clusters * cluster }
  }).reverse()
  const [top, ...backing] = files
  if (top === undefined) throw new Error('a chain has a layer at least')
  return { files: [top, ...backing], virtualSize: top.virtualSize, dataBytes: 0, changes: async () => [] }
}

/** A byte for each cluster: the layer whose data it has, counted from the top, or zeros. */
function flatten (extents: readonly Extent[], clusters: number): string[] {
  const found = Array.from({ length: clusters }, () => 'nothing')
  for (const { start, length, zero, depth } of extents) {
    for (let at = start; at < start + length; at += cluster) found[at / cluster] = zero ? 'zero' : `layer ${depth}`
  }
  return found
}

t.test('groups of layers add up to what the whole chain has, also where layers are shorter or longer than others', async t => {
  let runs = 0
  await fc.assert(fc.asyncProperty(fc.array(layer, { minLength: 1, maxLength: 7 }), fc.integer({ min: 1, max: 4 }), async (layers, groupLayers) => {
    runs++
    await t.test(`chain ${runs}`, async t => {
      const source = await makeChain(t, layers)
      const clusters = source.virtualSize / cluster
      const every = allLayers(source) ?? [0]
      const { stdout } = await runOk(mapCommand(layerNodes(source, every, 3), 0, source.virtualSize), { fds: layerFds(source, every) })
      const { extents, end } = await blockStatus(source, [0, 2 ** 40], { signal, groupLayers })
      t.equal(end, source.virtualSize)
      t.equal(extents.reduce((at, { start, length }) => start === at ? at + length : NaN, 0), end, 'back to back')
      t.strictSame(flatten(extents, clusters), flatten(parseMap(stdout), clusters))

      // what is read of any part with its layers only is what the whole chain reads as
      for (const [start, windowEnd] of [[0, clusters], [0, Math.ceil(clusters / 2)], [Math.floor(clusters / 2), clusters]] as const) {
        const used = layersOf(source, extents, [start * cluster, windowEnd * cluster])
        const part = { offset: start * cluster, length: (windowEnd - start) * cluster }
        const [few, all] = [layerNodes(source, used, 3), layerNodes(source, every, 3 + used.length)]
        await t.resolves(runOk(compareCommand(few, all, part), { fds: [...layerFds(source, used), ...layerFds(source, every)] }))
      }
    })
  }), { numRuns: 10 })
  t.equal(runs, 10)
})

t.test('a layer that is shorter than those above hides what lies below its end', async t => {
  const all = [{ at: 0, length: 20, zero: false }]
  const source = await makeChain(t, [{ clusters: 20, writes: all }, { clusters: 5, writes: [] }, { clusters: 20, writes: [] }])
  for (const groupLayers of [1, 2, 3]) {
    const { extents } = await blockStatus(source, [0, 2 ** 40], { signal, groupLayers })
    t.strictSame(flatten(extents, 20), [...Array<string>(5).fill('layer 2'), ...Array<string>(15).fill('zero')], `${groupLayers} in a group`)
    t.strictSame(layersOf(source, extents, [0, 20 * cluster]), [0, 1, 2], 'it is needed to read what is above')
    t.strictSame(layersOf(source, extents, [0, 5 * cluster]).at(-1), 2)
  }
})

t.test('a fragmented disk is read piece by piece: each look ends after some thousand extents', async t => {
  const path = join(await temporaryDirectory(t), 'fragmented.raw')
  const file = await open(path, 'w')
  const fragments = 50_000
  await file.truncate(fragments * 8 * KiB)
  const block = Buffer.alloc(4 * KiB, 'data')
  for (let index = 0; index < fragments; index++) await file.write(block, 0, block.length, index * 8 * KiB)
  await file.sync()
  await file.close()
  const fd = openSync(path, constants.O_RDONLY)
  t.teardown(() => { closeSync(fd) })
  const virtualSize = fragments * 8 * KiB
  const identity = { inode: '1', size: virtualSize, modified: '0', changed: '0' }
  const source: Source = {
    files: [{ image: 'fragmented.raw', format: 'raw', identity, fd, endBytes: virtualSize, virtualSize }], virtualSize, dataBytes: 0, changes: async () => []
  }
  let [at, looks, data] = [0, 0, 0]
  while (at < virtualSize) {
    const { extents, end } = await blockStatus(source, [at, virtualSize], { signal })
    t.ok(extents.length < 25_000, `${extents.length} extents in one look`)
    data += extents.filter(({ zero }) => !zero).reduce((sum, { length }) => sum + length, 0)
    t.ok(end > at)
    looks++
    at = end
  }
  t.equal(data, fragments * 4 * KiB)
  t.ok(looks >= 4, `${looks} looks`)
})

t.test('an abort ends the look with its reason', async t => {
  const source = await makeChain(t, [{ clusters: 4, writes: [] }])
  const stopped = AbortSignal.abort(new Error('stopped'))
  await t.rejects(blockStatus(source, [0, MiB], { signal: stopped }), { message: 'stopped' })
})
