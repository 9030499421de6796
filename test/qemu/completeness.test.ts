import { open, truncate, stat } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { assertComplete } from '../../src/qemu/completeness.ts'
import { headerBytes, parseQcow2Header } from '../../src/qemu/header.ts'
import { readBytes } from '../../src/system/directory.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { KiB, MiB, sh } from '../helpers/images.ts'
import { needs } from '../helpers/needs.ts'

needs('qemu-img')

const directory = await temporaryDirectory(t)
const create = async (path: string, size: string, ...options: string[]) => {
  await sh('qemu-img', 'create', '-q', '-f', 'qcow2', ...options, path, size)
}
const write = async (path: string, ...commands: string[]) => {
  await sh('qemu-io', '-f', 'qcow2', ...commands.flatMap(command => ['-c', command]), path)
}
const makePlain = async (path: string, ...options: string[]) => {
  await create(path, '8M', ...options)
  await write(path, 'write -P 1 0 1M', 'write -P 2 5M 100k')
}

const makers: Record<string, (path: string) => Promise<void>> = {
  empty: async path => { await create(path, '8M') },
  'with data': async path => { await makePlain(path) },
  'of version 2': async path => { await makePlain(path, '-o', 'compat=0.10') },
  'with small clusters': async path => {
    await create(path, '1M', '-o', 'cluster_size=512')
    await write(path, 'write -P 1 0 100k')
  },
  'with subclusters': async path => {
    await create(path, '8M', '-o', 'extended_l2=on,cluster_size=128k')
    await write(path, 'write -P 1 0 1M', 'write -P 1 4M 2k')
  },
  compressed: async path => {
    await makePlain(`${path}.plain`)
    await sh('qemu-img', 'convert', '-c', '-O', 'qcow2', `${path}.plain`, path)
  },
  preallocated: async path => { await create(path, '8M', '-o', 'preallocation=metadata') },
  'with zeros over data': async path => {
    await makePlain(path)
    await write(path, 'write -z 0 512k')
  },
  'with snapshots': async path => {
    await makePlain(path)
    for (const name of ['one', 'another']) {
      await sh('qemu-img', 'snapshot', '-c', name, path)
      await write(path, 'write -P 3 0 64k')
    }
    await sh('qemu-img', 'snapshot', '-c', 'the last', path)
  },
  'with a bitmap': async path => {
    await makePlain(path)
    await sh('qemu-img', 'bitmap', '--add', path, 'changes')
  },
  'of a large disk': async path => {
    await create(path, '100T')
    await write(path, 'write -P 1 0 1M', 'write -P 1 99T 1M')
  }
}

async function look (path: string, secondTableBytes = MiB): Promise<string> {
  const file = await open(path)
  try {
    const start = await readBytes(file.fd, headerBytes)
    parseQcow2Header(start, 'image', Number((await file.stat()).size))
    await assertComplete(file.fd, start, 'image', { secondTableBytes })
    return 'complete'
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  } finally {
    await file.close()
  }
}

for (const [what, make] of Object.entries(makers)) {
  t.test(`an image ${what} is complete, and incomplete wherever it is cut off`, async t => {
    const path = join(directory, `${what.replaceAll(' ', '-')}.qcow2`)
    await make(path)
    const { size } = await stat(path)
    t.equal(await look(path), 'complete')
    const step = what === 'with small clusters' ? 512 : 64 * KiB
    const cuts: number[] = []
    for (let cut = Math.floor((size - 1) / step) * step; cut > 0; cut -= step * Math.max(1, Math.floor(size / step / 24))) cuts.push(cut)
    for (const cut of cuts) {
      await truncate(path, cut)
      t.match(await look(path), /cut off|too short/, `${cut} of ${size}`)
    }
  })
}

t.test('tables that lead to data are looked at as far as is wanted, the last ones first', async t => {
  const path = join(directory, 'sparse.qcow2')
  await create(path, '4G')
  // four tables, each with its data behind it
  await write(path, ...[0, 1, 2, 3].map(index => `write -P 1 ${index}G 64k`))
  const { size } = await stat(path)
  await truncate(path, size - 64 * KiB)
  t.match(await look(path, 64 * KiB), /data of it lies up to/)
  t.equal(await look(path, 0), 'complete', 'not looked at')
})

t.test('tables that are larger than any are refused, and not read', async t => {
  const path = join(directory, 'absurd.qcow2')
  await create(path, '8M')
  const file = await open(path, 'r+')
  t.teardown(async () => { await file.close() })
  await file.truncate(2 ** 40)
  for (const [at, bytes] of [[36, [0x20, 0, 0, 0]], [56, [0, 0, 0x10, 0]]] as const) {
    const before = Buffer.alloc(4)
    await file.read(before, 0, 4, at)
    await file.write(Buffer.from(bytes), 0, 4, at)
    t.match(await look(path), /more than qcow2 allows/)
    await file.write(before, 0, 4, at)
  }
})

t.test('a cluster that reads as zeros needs no data, and every block of counters must be there', async t => {
  const path = join(directory, 'zeroed.qcow2')
  await create(path, '8M')
  await write(path, 'write -P 1 0 64k')
  const { size } = await stat(path)
  await write(path, 'write -z 0 64k')
  await truncate(path, size - 64 * KiB)
  t.equal(await look(path), 'complete', 'the cluster is still named, but not read')
  const file = await open(path, 'r+')
  const entry = Buffer.alloc(8)
  entry.writeBigUInt64BE(2n ** 30n)
  // where qemu-img puts the table of the counters
  await file.write(entry, 0, 8, 64 * KiB)
  await file.close()
  t.match(await look(path), /a block of its reference counts/)
})
