import { closeSync, constants, openSync, statSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { Progress } from '../../../src/api/task.ts'
import { compareDisks, diskOf, soleDisk, type Disk } from '../../../src/storage/copy/compare-disks.ts'
import { maxOpenLayers } from '../../../src/storage/copy/layers.ts'
import type { Source } from '../../../src/storage/copy/source.ts'
import { temporaryDirectory } from '../../helpers/directory.ts'
import { KiB, MiB, sh } from '../../helpers/images.ts'
import { needs } from '../../helpers/needs.ts'

needs('qemu-img')

t.setTimeout(300_000)

const { signal } = new AbortController()
const path = await temporaryDirectory(t)
const layers = maxOpenLayers + 8
const size = 20 * MiB + 512

const openFile = (t: Test, name: string) => {
  const fd = openSync(name, constants.O_RDONLY)
  t.teardown(() => { closeSync(fd) })
  return fd
}
const flat = (t: Test, name: string, virtualSize = size): Disk => soleDisk({ fd: openFile(t, join(path, name)), format: 'raw' }, virtualSize)

/** A chain that no single qemu-img may open: each layer writes here and there. */
async function makeChain (t: Test, name: string, write: (layer: number) => string[]): Promise<Disk> {
  const files = []
  for (let layer = 0; layer < layers; layer++) {
    const file = join(path, `${name}-${layer}.qcow2`)
    const backing = layer === 0 ? [] : ['-F', 'qcow2', '-b', join(path, `${name}-${layer - 1}.qcow2`)]
    await sh('qemu-img', 'create', '-q', '-f', 'qcow2', ...backing, file, String(size))
    const commands = write(layer)
    if (commands.length > 0) await sh('qemu-io', '-f', 'qcow2', ...commands.flatMap(command => ['-c', command]), file)
    const bytes = statSync(file).size
    const identity = { inode: String(layer), size: bytes, modified: '0', changed: '0' }
    files.unshift({ image: file, format: 'qcow2' as const, identity, fd: openFile(t, file), endBytes: Math.ceil(bytes / 65536) * 65536, virtualSize: size })
  }
  const [top, ...backing] = files
  if (top === undefined) throw new Error('a chain has a top')
  const source: Source = { files: [top, ...backing], virtualSize: size, dataBytes: 0, changes: async () => [] }
  return diskOf(source)
}
const scattered = (layer: number) => [`write -q -P ${layer + 1} ${(layer * 509) % 20_000}k 64k`, `write -q -z ${(layer * 977) % 20_000}k 8k`]

async function compare (a: Disk, b: Disk): Promise<{ identical: boolean, firstDifference?: number, told: Progress[] }> {
  const told: Progress[] = []
  const result = await compareDisks(a, b, { signal, owner: undefined, bytesTotal: size, report: progress => { told.push(progress) } })
  return { ...result, told }
}

t.test('a chain that is too long for one program is compared part by part', async t => {
  const chain = await makeChain(t, 'chain', scattered)
  const other = await makeChain(t, 'other', scattered)
  await sh('qemu-img', 'convert', '-O', 'raw', join(path, `chain-${layers - 1}.qcow2`), join(path, 'flat.raw'))
  for (const [what, a, b] of [
    ['a file', flat(t, 'flat.raw'), chain], ['the other way', chain, flat(t, 'flat.raw')], ['another chain', chain, other], ['itself', chain, chain]
  ] as const) {
    const { identical, told } = await compare(a, b)
    t.equal(identical, true, what)
    t.equal(told.at(-1)?.bytesDone, size)
    t.ok(told.every(({ bytesDone }, index) => index === 0 || Number(bytesDone) >= Number(told[index - 1]?.bytesDone)), 'never back')
  }
  for (const at of [0, 512, 5 * MiB, 7 * MiB + 4 * KiB, size - 512]) {
    await sh('cp', '--sparse=always', join(path, 'flat.raw'), join(path, 'spoilt.raw'))
    await sh('qemu-io', '-f', 'raw', '-c', `write -q -P 201 ${at} 512`, join(path, 'spoilt.raw'))
    t.match(await compare(chain, flat(t, 'spoilt.raw')), { identical: false, firstDifference: at }, String(at))
  }
})

t.test('what the longer disk has beyond the end of the other is to be zero', async t => {
  const chain = await makeChain(t, 'short', layer => layer === 0 ? ['write -q -P 1 0 1M'] : [])
  await sh('qemu-img', 'convert', '-O', 'raw', join(path, `short-${layers - 1}.qcow2`), join(path, 'longer.raw'))
  await sh('truncate', '-s', String(size + 3 * MiB), join(path, 'longer.raw'))
  t.match(await compare(chain, flat(t, 'longer.raw', size + 3 * MiB)), { identical: true })
  t.match(await compare(flat(t, 'longer.raw', size + 3 * MiB), chain), { identical: true })
  await sh('qemu-io', '-f', 'raw', '-c', `write -q -P 1 ${size + 2 * MiB} 512`, join(path, 'longer.raw'))
  t.match(await compare(chain, flat(t, 'longer.raw', size + 3 * MiB)), { identical: false, firstDifference: size + 2 * MiB })
})
