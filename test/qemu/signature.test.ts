import { open, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { containerIn, looksLike } from '../../src/qemu/signature.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { sh } from '../helpers/images.ts'
import { needs } from '../helpers/needs.ts'
import { until } from '../helpers/processes.ts'

needs('qemu-img')

t.test('whatever qemu-img would not take for raw is known by its first bytes', async t => {
  const directory = await temporaryDirectory(t)
  for (const format of ['raw', 'qcow', 'qcow2', 'qed', 'vmdk', 'vhdx', 'vpc', 'vdi', 'parallels']) {
    const path = join(directory, format)
    await sh('qemu-img', 'create', '-q', '-f', format, path, '1M')
    const { format: probed } = JSON.parse(await sh('qemu-img', 'info', '--output=json', path)) as { format: string }
    const found = looksLike(await readFile(path))
    t.equal(found === undefined, probed === 'raw', `${format}, probed as ${probed}, looks like ${found}`)
  }
  const luks = join(directory, 'luks')
  const options = ['--object', 'secret,id=key,data=abc', '-o', 'key-secret=key,iter-time=10']
  // it measures the processor first, and gives up where others leave it none
  await until(async () => await sh('qemu-img', 'create', '-q', '-f', 'luks', ...options, luks, '1M').then(() => true, (error: Error) => {
    if (!error.message.includes('Unable to get accurate CPU usage')) throw error
    return false
  }), 'qemu-img to measure the processor')
  t.equal(looksLike(await readFile(luks)), 'luks')
})

t.test('anything shorter or different looks raw', async t => {
  for (const start of ['', 'QFI', 'xQFI\xfb', 'KDM', '\x7f\x10\xda\xbe']) t.equal(looksLike(Buffer.from(start, 'latin1')), undefined, JSON.stringify(start))
})

t.test('whatever is handed round as a disk and is none is told by name, its end included, and how to make an image of it', async t => {
  const directory = await temporaryDirectory(t)
  const look = async (path: string) => {
    const file = await open(path)
    try {
      return await containerIn(file.fd, (await file.stat()).size)
    } finally {
      await file.close()
    }
  }
  for (const [name, options, words, remedy] of [
    ['vmdk', ['-f', 'vmdk'], /^a VMDK image$/, /convert -f vmdk -O qcow2/],
    ['vmdk', ['-f', 'vmdk', '-o', 'subformat=twoGbMaxExtentFlat'], /^a VMDK image$/, /convert -f vmdk/],
    ['vdi', ['-f', 'vdi'], /^a VDI image$/, /convert -f vdi/],
    ['vhdx', ['-f', 'vhdx'], /^a VHDX image$/, /convert -f vhdx/],
    ['vhd', ['-f', 'vpc'], /^a VHD image$/, /convert -f vpc/],
    ['vhd-fixed', ['-f', 'vpc', '-o', 'subformat=fixed'], /^a VHD image$/, /convert -f vpc/],
    ['qed', ['-f', 'qed'], /^a QED image$/, /convert -f qed/],
    ['parallels', ['-f', 'parallels'], /^a Parallels image$/, /convert -f parallels/],
    ['qcow2', ['-f', 'qcow2'], /^a qcow2 image$/, /"format": "qcow2"/]
  ] as const) {
    const path = join(directory, name)
    await sh('qemu-img', 'create', '-q', ...options, path, '8M')
    const found = await look(path)
    t.match([found?.words, found?.remedy], [words, remedy], options.join(' '))
  }
  await writeFile(join(directory, 'disk'), Buffer.alloc(1024))
  t.equal(await look(join(directory, 'disk')), undefined)
  // the footer of old programs is a byte shorter
  const footer = (await readFile(join(directory, 'vhd-fixed'))).subarray(-512, -1)
  await writeFile(join(directory, 'short-footer'), Buffer.concat([Buffer.alloc(4096), footer]))
  t.match(await look(join(directory, 'short-footer')), { words: 'a VHD image' })
  for (const tool of ['gzip', 'xz', 'bzip2']) {
    await sh('sh', '-c', `${tool} -c '${join(directory, 'disk')}' > '${join(directory, tool)}'`)
    t.match(await look(join(directory, tool)), { words: `a ${tool} file`, remedy: /unpack/ })
  }
  await sh('tar', '-cf', join(directory, 'ova'), '-C', directory, 'disk')
  t.match(await look(join(directory, 'ova')), { words: 'a tar file' })
  for (const size of [0, 1, 511]) {
    await writeFile(join(directory, 'tiny'), Buffer.alloc(size))
    t.equal(await look(join(directory, 'tiny')), undefined, `${size} bytes`)
  }
})
