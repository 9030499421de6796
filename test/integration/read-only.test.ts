import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { copySpec, deleteSpec, startAgent } from '../helpers/agent.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { makeDisk, MiB, sha256 } from '../helpers/images.ts'
import { MountSpace, unlessRoot } from '../helpers/mount-space.ts'

t.test('images of a read-only file system can be read, and are not changed', { skip: unlessRoot }, async t => {
  const directory = await temporaryDirectory(t)
  const space = await MountSpace.make(t)
  const [local, templates] = ['local', 'templates'].map(name => join(directory, name)) as [string, string]
  await mkdir(templates)
  await space.mountFile(join(directory, 'disk.img'), 64 * MiB, ['mkfs.ext4', '-q', '-F'], templates)
  const domains = [{ id: 'local', path: local, create: true }, { id: 'templates', path: templates, create: true }]
  const source = (image: string) => ({ source: { domain: 'templates', image } })
  const target = (image: string) => ({ target: { domain: 'templates', image } })

  const writer = await startAgent(t, { domains, under: space.enter })
  await makeDisk(space.path(join(templates, 'leased.raw')), 8 * MiB, { blockBytes: MiB })
  t.match(await writer.done('first', copySpec('leased.raw', 'first.raw', source('leased.raw'))), { state: 'succeeded' })
  await makeDisk(space.path(join(templates, 'never-leased.raw')), 8 * MiB, { blockBytes: MiB })
  await writer.kill()

  await space.run('mount', '-o', 'remount,ro', templates)
  const reader = await startAgent(t, { domains, under: space.enter })
  for (const image of ['leased.raw', 'never-leased.raw']) {
    t.match(await reader.done(image, copySpec(image, `copy-of-${image}`, source(image))), { state: 'succeeded' })
    t.equal(await sha256(space.path(join(local, `copy-of-${image}`))), await sha256(space.path(join(templates, image))))
    t.match((await reader.image('templates', image)).body, { state: 'ok' })
  }
  t.match(await reader.refused('onto', copySpec('first.raw', 'new.raw', target('new.raw'))), { status: 500, body: { code: 'storage-failed', detail: /mounted read-only/ } })
  t.match(await reader.refused('delete', { ...deleteSpec('leased.raw'), domain: 'templates' }), { status: 500, body: { code: 'storage-failed', detail: /mounted read-only/ } })
})
