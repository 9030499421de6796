import { cp, link, mkdir, open, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { openArea, prepareArea, type Area } from '../../../../src/storage/area.ts'
import { BackingIndex } from '../../../../src/storage/layout/directory/children.ts'
import { temporaryDirectory } from '../../../helpers/directory.ts'
import { sh } from '../../../helpers/images.ts'
import { needs } from '../../../helpers/needs.ts'

needs('qemu-img')

const parent = await temporaryDirectory(t)
let number = 0

interface Bench {
  area: Area
  path: string
  at: (name: string) => string
  children: (image: string) => Promise<string[]>
  /** Makes an overlay whose header has this in it. */
  overlay: (name: string, backing: string) => Promise<void>
}

async function makeBench (t: Test, path = join(parent, String(++number)), given = path): Promise<Bench> {
  await prepareArea({ id: 'local', path }, true)
  const area = await openArea({ id: 'local', path: given })
  t.teardown(async () => { await area.close() })
  const index = new BackingIndex()
  const at = (name: string) => join(path, name)
  return {
    area,
    path,
    at,
    children: async image => await index.childrenOf(area, image),
    overlay: async (name, backing) => { await sh('qemu-img', 'create', '-q', '-u', '-f', 'qcow2', '-F', 'qcow2', '-b', backing, at(name), '1M') }
  }
}

t.test('a base has the overlays that name it in any way that qemu understands', async t => {
  const { at, path, children, overlay } = await makeBench(t)
  await sh('qemu-img', 'create', '-q', '-f', 'qcow2', at('base.img'), '1M')
  const ways = {
    bare: 'base.img',
    dot: './base.img',
    dots: '././base.img',
    'by-parent': `../${path.split('/').at(-1)}/base.img`,
    absolute: `${path}/base.img`,
    'absolute-dots': `${path}/./x/../base.img`,
    protocol: `file:${path}/base.img`,
    json: `json:${JSON.stringify({ driver: 'qcow2', file: { driver: 'file', filename: `${path}/base.img` } })}`,
    'json-flat': `json:${JSON.stringify({ driver: 'qcow2', 'file.filename': `${path}/base.img` })}`
  }
  for (const [name, backing] of Object.entries(ways)) await overlay(name, backing)
  for (const [name, backing] of Object.entries({ other: 'base2.img', outside: '/elsewhere/base.img', remote: 'nbd://host/base.img', below: 'sub/base.img' })) await overlay(name, backing)
  await writeFile(at('raw.raw'), 'base.img')
  t.strictSame(await children('base.img'), Object.keys(ways).sort())
  t.strictSame(await children('bare'), [])
})

t.test('of a chain of three each has its own child, until that is rebased, replaced or removed', async t => {
  const { at, children, overlay } = await makeBench(t)
  await sh('qemu-img', 'create', '-q', '-f', 'qcow2', at('base.qcow2'), '1M')
  await overlay('middle.qcow2', 'base.qcow2')
  await overlay('top.qcow2', 'middle.qcow2')
  t.strictSame([await children('base.qcow2'), await children('middle.qcow2'), await children('top.qcow2')], [['middle.qcow2'], ['top.qcow2'], []])

  await sh('qemu-img', 'rebase', '-u', '-F', 'qcow2', '-b', 'base.qcow2', at('top.qcow2'))
  t.strictSame([await children('base.qcow2'), await children('middle.qcow2')], [['middle.qcow2', 'top.qcow2'], []])
  await rm(at('middle.qcow2'))
  t.strictSame(await children('base.qcow2'), ['top.qcow2'])
  await rename(at('top.qcow2'), at('renamed.qcow2'))
  t.strictSame(await children('base.qcow2'), ['renamed.qcow2'])
  await cp(at('base.qcow2'), at('renamed.qcow2'))
  t.strictSame(await children('base.qcow2'), [])
})

t.test('a header that is written again in place, with the same size, is seen', async t => {
  const { at, children, overlay } = await makeBench(t)
  await overlay('top.qcow2', 'base-a')
  await Promise.all(['base-a', 'base-b'].map(async name => { await writeFile(at(name), '') }))
  t.strictSame([await children('base-a'), await children('base-b')], [['top.qcow2'], []])
  const file = await open(at('top.qcow2'), 'r+')
  const offset = Number((await file.read(Buffer.alloc(8), 0, 8, 8)).buffer.readBigUInt64BE())
  await file.write('base-b', offset)
  await file.close()
  t.strictSame([await children('base-a'), await children('base-b')], [[], ['top.qcow2']])
})

t.test('a base is also found through a link, and by the path without links', async t => {
  const path = join(parent, 'real')
  await mkdir(path)
  await symlink(path, join(parent, 'linked'))
  const { at, children, overlay } = await makeBench(t, path, join(parent, 'linked'))
  await sh('qemu-img', 'create', '-q', '-f', 'qcow2', at('v2.qcow2'), '1M')
  await symlink('v2.qcow2', at('latest.qcow2'))
  await symlink(join(path, 'latest.qcow2'), at('stable.qcow2'))
  await symlink('loop', at('loop'))
  await overlay('by-link', 'latest.qcow2')
  await overlay('by-two-links', 'stable.qcow2')
  await overlay('by-path', join(path, 'v2.qcow2'))
  await overlay('by-linked-path', join(parent, 'linked', 'v2.qcow2'))
  await overlay('by-loop', 'loop')
  t.strictSame(await children('v2.qcow2'), ['by-link', 'by-linked-path', 'by-path', 'by-two-links'])
})

t.test('a second name of a base can go, the one that the overlay knows cannot', async t => {
  const { at, children, overlay } = await makeBench(t)
  await sh('qemu-img', 'create', '-q', '-f', 'qcow2', at('base.qcow2'), '1M')
  await link(at('base.qcow2'), at('second.qcow2'))
  await overlay('top.qcow2', 'base.qcow2')
  t.strictSame([await children('base.qcow2'), await children('second.qcow2')], [['top.qcow2'], []])
})

t.test('the external data file of an image is needed by it', async t => {
  const { at, children } = await makeBench(t)
  await sh('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', `data_file=${at('data.raw')}`, at('disk.qcow2'), '1M')
  t.strictSame(await children('data.raw'), ['disk.qcow2'])
})

t.test('images that are based on themselves, or on each other, do not keep each other', async t => {
  const { children, overlay } = await makeBench(t)
  await overlay('self', 'self')
  await overlay('one', 'two')
  await overlay('two', 'one')
  await overlay('on-cycle', 'two')
  t.strictSame([await children('self'), await children('one'), await children('two')], [[], [], ['on-cycle']])
})

t.test('headers that are cut off or absurd are nothing to wonder about', async t => {
  const { at, children, overlay } = await makeBench(t)
  await writeFile(at('base'), '')
  await overlay('whole', 'base')
  const { buffer } = await (await open(at('whole'))).read(Buffer.alloc(512), 0, 512, 0)
  for (const length of [0, 3, 71, 72, 100, 104]) await writeFile(at(`cut-${length}`), buffer.subarray(0, length))
  for (const [name, offset, length] of [['far', 2n ** 63n, 4], ['long', 512n, 2 ** 31]] as const) {
    const header = Buffer.from(buffer)
    header.writeBigUInt64BE(offset, 8)
    header.writeUInt32BE(length, 16)
    await writeFile(at(name), header)
  }
  for (const broken of ['json:{', 'json:[1,null,"base"]', 'json:{"filename":7}', ':', '']) await overlay(`odd-${broken.length}`, `${broken}x`)
  t.strictSame(await children('base'), ['whole'])
})

t.test('a name far behind the header is read, too', async t => {
  const { at, children, overlay } = await makeBench(t)
  await writeFile(at('base'), '')
  await overlay('near', 'base')
  const header = await (await open(at('near'))).read(Buffer.alloc(65536), 0, 65536, 0)
  header.buffer.write('base', 60_000)
  header.buffer.writeBigUInt64BE(60_000n, 8)
  await writeFile(at('far'), header.buffer)
  t.strictSame(await children('base'), ['far', 'near'])
})
