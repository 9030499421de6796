import { join } from 'node:path'
import t from 'tap'
import { mapCommand } from '../../src/qemu/commands.ts'
import { parseMap } from '../../src/qemu/map.ts'
import { closeFd, openDirectory, openFile } from '../../src/system/directory.ts'
import { run } from '../../src/system/run.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { MiB, sh } from '../helpers/images.ts'
import { needs } from '../helpers/needs.ts'

needs('qemu-img')

t.test('what qemu-img says of data, zeros and holes is read, also of a part only', async t => {
  const path = await temporaryDirectory(t)
  await sh('qemu-img', 'create', '-q', '-f', 'qcow2', join(path, 'a.qcow2'), '8M')
  await sh('qemu-io', '-f', 'qcow2', '-c', 'write 1M 1M', '-c', 'write -z 4M 1M', join(path, 'a.qcow2'))
  const directory = await openDirectory(path)
  const fd = await openFile(directory, 'a.qcow2', 0)
  t.teardown(async () => { await Promise.all([fd, directory.fd].map(async fd => { await closeFd(fd) })) })
  const map = async (offset: number, length: number) => parseMap((await run(mapCommand([{ fd: 3, format: 'qcow2' }], offset, length), { fds: [fd] })).stdout)
  const whole = await map(0, 8 * MiB)
  t.equal(whole.reduce((sum, { start, length }) => start === sum ? sum + length : NaN, 0), 8 * MiB, 'without gaps')
  t.same(whole.filter(({ zero }) => !zero).map(({ start, length }) => [start, length]), [[MiB, MiB]])
  t.match(await map(MiB + 512, 1024), [{ start: MiB + 512, length: 1024, zero: false }])
})

t.test('anything else is an error that shows its beginning', async t => {
  t.same(parseMap('[]'), [])
  for (const text of ['{}', 'null', '[{"start":0,"length":1}]', '[{"start":-1,"length":1,"zero":true}]', '[{"start":0,"length":1,"zero":"yes"}]', '[[0,1,true]]']) {
    t.throws(() => parseMap(text), { message: /something else than extents/ }, text)
  }
  t.throws(() => parseMap(''))
  t.throws(() => parseMap(`{"a":"${'x'.repeat(100_000)}"}`), { message: /^.{1,300}$/s })
})
