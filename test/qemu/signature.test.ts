import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { looksLike } from '../../src/qemu/signature.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { sh } from '../helpers/images.ts'

t.test('whatever qemu-img would not take for raw is known by its first bytes', async t => {
  const directory = await temporaryDirectory(t)
  for (const format of ['raw', 'qcow', 'qcow2', 'qed', 'vmdk', 'vhdx', 'vpc', 'vdi', 'parallels']) {
    const path = join(directory, format)
    await sh('qemu-img', 'create', '-q', '-f', format, path, '1M')
    const { format: probed } = JSON.parse(await sh('qemu-img', 'info', '--output=json', path)) as { format: string }
    const found = looksLike(await readFile(path))
    t.equal(found === undefined, probed === 'raw', `${format}, probed as ${probed}, looks like ${found}`)
  }
  await sh('qemu-img', 'create', '-q', '-f', 'luks', '--object', 'secret,id=key,data=abc', '-o', 'key-secret=key,iter-time=10', join(directory, 'luks'), '1M')
  t.equal(looksLike(await readFile(join(directory, 'luks'))), 'luks')
})

t.test('anything shorter or different looks raw', async t => {
  for (const start of ['', 'QFI', 'xQFI\xfb', 'KDM', '\x7f\x10\xda\xbe']) t.equal(looksLike(Buffer.from(start, 'latin1')), undefined, JSON.stringify(start))
})
