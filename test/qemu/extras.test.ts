import { open, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { extrasOf, type Extras } from '../../src/qemu/extras.ts'
import { headerBytes } from '../../src/qemu/header.ts'
import { readBytes } from '../../src/system/directory.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { sh } from '../helpers/images.ts'
import { needs } from '../helpers/needs.ts'

needs('qemu-img')

const path = join(await temporaryDirectory(t), 'image.qcow2')
const create = async (...options: string[]) => { await sh('qemu-img', 'create', '-q', '-f', 'qcow2', ...options, path, '2M') }
const look = async (): Promise<Extras> => {
  const file = await open(path)
  try {
    return await extrasOf(file.fd, await readBytes(file.fd, headerBytes), 'image.qcow2')
  } finally {
    await file.close()
  }
}
/** What qemu-img says of it. */
const told = async (): Promise<Extras> => {
  const info = JSON.parse(await sh('qemu-img', 'info', '--output=json', path)) as {
    snapshots?: Array<{ id: string, name: string }>, 'format-specific': { data: { bitmaps?: Array<{ name: string }> } }
  }
  return {
    snapshots: (info.snapshots ?? []).map(({ id, name }) => name === '' ? id : name),
    bitmaps: (info['format-specific'].data.bitmaps ?? []).map(({ name }) => name)
  }
}
const edit = async (change: (file: FileHandle, header: Buffer) => Promise<void>) => {
  const file = await open(path, 'r+')
  await change(file, await readBytes(file.fd, headerBytes))
  await file.close()
}

t.test('the names of snapshots and bitmaps are those that qemu-img tells', async t => {
  for (const options of [[], ['-o', 'compat=0.10'], ['-o', 'cluster_size=512'], ['-o', 'extended_l2=on']]) {
    await create(...options)
    const isOld = options.includes('compat=0.10')
    t.strictSame(await look(), { snapshots: [], bitmaps: [] })
    for (const name of ['7', 'second', 'with space', 'x'.repeat(200), 'Übergröße']) await sh('qemu-img', 'snapshot', '-c', name, path)
    if (!isOld) for (const name of ['daily', 'y'.repeat(300)]) await sh('qemu-img', 'bitmap', '--add', path, name)
    const expected = await told()
    t.equal(expected.snapshots.length + expected.bitmaps.length, isOld ? 5 : 7)
    t.strictSame(await look(), expected, options.join(' '))
  }
})

t.test('bitmaps that an old program has made useless are none', async t => {
  await create()
  await sh('qemu-img', 'bitmap', '--add', path, 'daily')
  await edit(async file => { await file.write(Buffer.alloc(8), 0, 8, 88) })
  t.strictSame(await look(), { snapshots: [], bitmaps: [] })
})

t.test('a list that is cut off, or larger than any, is refused in bounded time and memory', async t => {
  const refused = async (t: Test, words: RegExp) => { await t.rejects(look(), { code: 'image-invalid', message: words }) }
  await create()
  await sh('qemu-img', 'snapshot', '-c', 'one', path)
  await edit(async (file, header) => {
    header.writeUInt32BE(65_536, 60)
    await file.write(header, 0, 104, 0)
  })
  await refused(t, /cut off/)
  // each entry claims to be as long as it can
  await edit(async (file, header) => {
    const offset = Number(header.readBigUInt64BE(64))
    const entry = Buffer.alloc(40)
    entry.writeUInt32BE(0xffffffff, 36)
    await file.write(entry, 0, 40, offset)
  })
  await refused(t, /larger than qcow2 allows/)
})
