import { spawn } from 'node:child_process'
import { link, readFile, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { openArea, prepareArea } from '../../../src/storage/area.ts'
import { openSource, probeSource, recordedFiles, sourceChanges, type Source } from '../../../src/storage/copy/source.ts'
import { sourceChain } from '../../../src/storage/layout/source-chain.ts'
import { closeFd } from '../../../src/system/directory.ts'
import { temporaryDirectory } from '../../helpers/directory.ts'
import { Empty } from '../../helpers/empty.ts'
import { KiB, makeDisk, MiB, qcow2Header, sh } from '../../helpers/images.ts'
import { needs } from '../../helpers/needs.ts'

needs('qemu-img')

t.setTimeout(120_000)

const top = await temporaryDirectory(t)
const place = { id: 'local', path: join(top, 'domain') }
const secret = join(top, 'secret.raw')
const at = (name: string) => join(place.path, name)
await prepareArea(place, true)
const area = await openArea(place)
t.teardown(async () => { await area.close() })
await makeDisk(secret, MiB)
await makeDisk(at('base.raw'), MiB)

const opened: Source[] = []
t.teardown(async () => { await Promise.all(opened.flatMap(({ files }) => files.map(async ({ fd }) => { await closeFd(fd) }))) })
const open = async (image: string, format: 'raw' | 'qcow2' = image.endsWith('.qcow2') ? 'qcow2' : 'raw'): Promise<Source> => {
  const source = await openSource(area, await sourceChain(area, { domain: 'local', image, format }))
  opened.push(source)
  return source
}

/** An overlay with any backing string: qemu-img would not make most of these as they are. */
const overlay = async (name: string, backing: string, format?: string) => {
  await sh('qemu-img', 'create', '-q', '-f', 'qcow2', at(name), '1M')
  await sh('qemu-img', 'rebase', '-u', '-f', 'qcow2', '-b', backing, ...format === undefined ? [] : ['-F', format], at(name))
}

t.test('a chain in the domain is opened whole, each file once', async t => {
  await overlay('middle.qcow2', 'base.raw', 'raw')
  await overlay('top.qcow2', at('middle.qcow2'), 'qcow2')
  await writeFile(at('noext'), await readFile(at('base.raw')))
  await overlay('told.qcow2', 'noext', 'raw')
  const { files, virtualSize } = await open('top.qcow2')
  t.same(files.map(({ image, format }) => [image, format]), [['top.qcow2', 'qcow2'], ['middle.qcow2', 'qcow2'], ['base.raw', 'raw']])
  t.equal(virtualSize, MiB)
  t.same((await open('told.qcow2')).files.map(({ image, format }) => [image, format]), [['told.qcow2', 'qcow2'], ['noext', 'raw']], 'the image tells the format where the name does not')
  const trojan = await readFile(at('top.qcow2'))
  await writeFile(at('trojan.raw'), trojan)
  t.match(await open('trojan.raw'), { virtualSize: trojan.length, files: [{ format: 'raw' }] }, 'raw is raw, whatever it begins with')
})

t.test('a backing file is read as it is declared, whatever it is called and holds', async t => {
  await sh('qemu-img', 'create', '-q', '-f', 'qcow2', at('content.qcow2'), '1M')
  const [qcow2, raw] = [await readFile(at('content.qcow2')), await readFile(at('base.raw'))]
  for (const name of ['x.img', 'x.iso', 'x.raw', 'x.qcow2', 'x', 'x.vmdk']) {
    for (const [content, bytes] of [['qcow2', qcow2], ['raw', raw]] as const) {
      await writeFile(at(name), bytes)
      for (const declared of ['raw', 'qcow2', 'vmdk', 'luks', ''] as const) {
        const what = `${name} holds ${content}, declared ${declared === '' ? 'not at all' : declared}`
        await writeFile(at('over-x.qcow2'), qcow2Header({ backing: `./${name}`, backingFormat: declared, l1Offset: 0x10000 }))
        await truncate(at('over-x.qcow2'), 0x20000)
        const byName = content === 'raw' && /\.(img|iso|raw)$/.test(name) ? 'raw' : undefined
        const asDeclared = declared === 'raw' || (declared === 'qcow2' && content === 'qcow2') ? declared : undefined
        const format = declared === '' ? byName : asDeclared
        if (format === undefined) await t.rejects(open('over-x.qcow2'), { code: 'image-invalid', message: /over-x\.qcow2|does not begin like/ }, what)
        else t.strictSame((await open('over-x.qcow2')).files.map(file => [file.image, file.format]), [['over-x.qcow2', 'qcow2'], [name, format]], what)
      }
    }
  }
})

t.test('an image that leads out of the domain, or nowhere, is refused by name', async t => {
  await symlink(secret, at('link.raw'))
  await link(at('base.raw'), at('base.img2'))
  await sh('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', `data_file=${secret},data_file_raw=on`, at('data-file.qcow2'), '1M')
  const beside = /does not lie beside it/
  const backings: Array<[name: string, backing: string, format: string, words: RegExp]> = [
    ['passwd', '/etc/passwd', 'raw', /"\/etc\/passwd" does not lie beside it/],
    ['secret', secret, 'raw', beside],
    ['dots', '../secret.raw', 'raw', beside],
    ['inner-dots', 'x/../../secret.raw', 'raw', beside],
    ['prefix', `${place.path}/../secret.raw`, 'raw', beside],
    ['sibling', `${place.path}-other/secret.raw`, 'raw', beside],
    ['own-files', '.vdsm-tasks/domain.json', 'raw', beside],
    ['json', `json:{"driver":"raw","file":{"driver":"file","filename":"${secret}"}}`, 'raw', beside],
    ['nbd', 'nbd:127.0.0.1:10809', 'raw', /"nbd:127\.0\.0\.1:10809" does not lie beside it/],
    ['nbd-unix', `nbd+unix:///?socket=${top}/nbd.sock`, 'raw', beside],
    ['http', 'http://127.0.0.1:10809/x', 'raw', beside],
    ['file-protocol', `file:${secret}`, 'raw', beside],
    ['long', `/${'x'.repeat(1000)}`, 'raw', /^.{1,400}$/],
    ['missing', 'nothing.raw', 'raw', /nothing\.raw is missing/],
    ['exotic', 'base.img2', 'vmdk', /format of its backing file base\.img2/],
    ['self', 'self.qcow2', 'qcow2', /loop at self\.qcow2/],
    // a file that is its own backing file, if only as raw
    ['disguised', 'disguised.qcow2', 'raw', /loop/],
    ['loop-a', 'loop-b.qcow2', 'qcow2', /loop at loop-a\.qcow2/],
    ['loop-b', 'loop-a.qcow2', 'qcow2', /loop/],
    ['over-data-file', 'data-file.qcow2', 'qcow2', /data-file\.qcow2.* in another file/]
  ]
  for (const [name, backing, format] of backings) await overlay(`${name}.qcow2`, backing, format)
  for (const [name, , , words] of backings) await t.rejects(open(`${name}.qcow2`), { code: 'image-invalid', message: words }, name)
  await t.rejects(open('data-file.qcow2'), { code: 'image-invalid', message: /in another file/ })
  await overlay('by-link.qcow2', 'link.raw', 'raw')
  for (const name of ['by-link.qcow2', 'link.raw']) await t.rejects(open(name), { name: 'NotAFileError', message: /link\.raw/ })
  await t.rejects(open('nothing.raw'), { code: 'image-not-found' })
})

t.test('a damaged image is refused, in bounded time and memory', async t => {
  // 9 PB in clusters of 2 MiB: a table of 34 GB, and a file that is long enough for it, of holes
  for (const [name, content, words, fileBytes] of [
    ['eib', qcow2Header({ virtualSize: 2n ** 63n }), /9223372036854775808/],
    ['petabytes', qcow2Header({ virtualSize: Number.MAX_SAFE_INTEGER - 511, clusterBits: 21, l1Size: 0xffffffff }), /more than qcow2 allows/, 2 ** 36],
    ['petabytes-small-clusters', qcow2Header({ virtualSize: 2 ** 50, clusterBits: 9, l1Size: 2 ** 25 }), /more than qcow2 allows/, 2 ** 36],
    ['table-elsewhere', qcow2Header({ l1Offset: 12345 }), /qemu-img says/, MiB],
    ['table-short', qcow2Header({ virtualSize: 2 ** 40 }), /qemu-img says/, MiB],
    ['header-only', qcow2Header(), /cut off/],
    ['short', qcow2Header().subarray(0, 60), /too short/],
    ['empty', Buffer.alloc(0), /too short/],
    ['noise', Buffer.from('QFI\xfb'.repeat(10_000), 'latin1'), /qcow2 version/],
    ['raw', await readFile(at('base.raw')), /does not begin like a qcow2/]
  ] as const) {
    await writeFile(at(`damaged-${name}.qcow2`), content)
    if (fileBytes !== undefined) await truncate(at(`damaged-${name}.qcow2`), fileBytes)
    // what we do not read ourselves, qemu does
    const looking = open(`damaged-${name}.qcow2`).then(async source => { await probeSource(source) })
    await t.rejects(looking, { code: 'image-invalid', message: words }, name)
  }
})

t.test('a chain of two hundred files is one too many', async t => {
  let below = 'base.raw'
  for (let index = 0; index < 200; index++) {
    await writeFile(at(`chain-${index}.qcow2`), qcow2Header({ backing: below, backingFormat: below.endsWith('.raw') ? 'raw' : 'qcow2', l1Offset: 0x10000 }))
    await truncate(at(`chain-${index}.qcow2`), 0x20000)
    below = `chain-${index}.qcow2`
  }
  await t.rejects(open(below), { code: 'image-invalid', message: /more than 200 backing files/ })
})

t.test('an image that a guest has open for writing is in use, not invalid', async t => {
  await sh('qemu-img', 'create', '-q', '-f', 'qcow2', at('guest.qcow2'), '1M')
  await makeDisk(at('guest.raw'), 64 * KiB)
  for (const [name, format] of [['guest.qcow2', 'qcow2'], ['guest.raw', 'raw']] as const) {
    const guest = spawn('qemu-io', ['-f', format, at(name)], { stdio: ['pipe', 'pipe', 'inherit'] })
    t.teardown(() => { guest.kill('SIGKILL') })
    guest.stdin.write('read 0 512\n')
    for await (const text of guest.stdout.iterator({ destroyOnReturn: false })) if (String(text).includes('read 512/512')) break
    await t.rejects(open(name).then(async source => { await probeSource(source) }), { code: 'source-in-use', message: new RegExp(name) })
    guest.stdin.end()
  }
})

t.test('every change to any file of the chain shows', async t => {
  const source = await open('top.qcow2')
  const recorded = recordedFiles(source)
  t.same(await sourceChanges(source, recorded), { changed: [], touched: [] })
  await link(at('base.raw'), at('base.another'))
  t.same(await sourceChanges(source, recorded), { changed: [], touched: ['changed of base.raw'] }, 'a hard link changes nothing in the file')
  await writeFile(at('base.raw'), 'x', { flag: 'r+' })
  t.match(await sourceChanges(source, recorded), { changed: ['modified of base.raw', 'changed of base.raw'], touched: Empty })
  t.same(await sourceChanges(source, recordedFiles(await open('middle.qcow2'))), { changed: ['the backing files'], touched: [] })
})
