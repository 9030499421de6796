import { join } from 'node:path'
import t from 'tap'
import { infoCommand } from '../../src/qemu/commands.ts'
import { parseInfo } from '../../src/qemu/info.ts'
import { closeFd, openDirectory, openFile } from '../../src/system/directory.ts'
import { run } from '../../src/system/run.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { sh } from '../helpers/images.ts'

t.test('what qemu-img says is read', async t => {
  const path = await temporaryDirectory(t)
  await sh('qemu-img', 'create', '-q', '-f', 'raw', join(path, 'base'), '2M')
  await sh('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'base', '-F', 'raw', join(path, 'top.qcow2'), '3M')
  for (const name of ['7', 'second']) await sh('qemu-img', 'snapshot', '-c', name, join(path, 'top.qcow2'))
  await sh('qemu-img', 'bitmap', '--add', join(path, 'top.qcow2'), 'daily')
  const directory = await openDirectory(path)
  for (const [name, format, expected] of [
    ['base', 'raw', { virtualSize: 2 * 1024 * 1024, backingFormat: undefined, snapshots: [], bitmaps: [] }],
    ['top.qcow2', 'qcow2', { virtualSize: 3 * 1024 * 1024, backingFormat: 'raw', snapshots: ['7', 'second'], bitmaps: ['daily'] }]
  ] as const) {
    const fd = await openFile(directory, name, 0)
    t.same(parseInfo((await run(infoCommand({ fd: 3, format }), { fds: [fd] })).stdout), expected)
    await closeFd(fd)
  }
  await closeFd(directory.fd)
})

t.test('anything else is nothing', async t => {
  for (const text of ['', '{', 'null', '[]', '{}', '{"virtual-size":-1}', '{"virtual-size":"5"}', '{"virtual-size":1.5}', '{"virtual-size":1,"backing-filename-format":7}', 'qemu-img: error']) {
    t.equal(parseInfo(text), undefined, text)
  }
  t.same(parseInfo('{"virtual-size":0,"something":"new"}'), { virtualSize: 0, backingFormat: undefined, snapshots: [], bitmaps: [] }, 'members that later versions add do no harm')
})
