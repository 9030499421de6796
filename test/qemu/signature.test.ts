import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { looksLike } from '../../src/qemu/signature.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { sh } from '../helpers/images.ts'
import { until } from '../helpers/processes.ts'

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
