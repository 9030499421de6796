import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { copySpec, stalled, startAgent } from '../helpers/agent.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { makeDisk, MiB } from '../helpers/images.ts'
import { MountSpace, unlessRoot } from '../helpers/mount-space.ts'

t.setTimeout(300_000)

t.test('what copies of another host still need is not free for this one', { skip: unlessRoot }, async t => {
  const space = await MountSpace.make(t)
  const top = await temporaryDirectory(t)
  const [shared, local] = [join(top, 'shared'), join(top, 'local')]
  await mkdir(shared)
  await space.run('mount', '-t', 'tmpfs', '-o', `size=${40 * MiB}`, 'tmpfs', shared)
  const start = async (hostId: string) => await startAgent(t, {
    hostId,
    domains: [{ id: 'shared', path: shared, create: hostId === 'node1' }, { id: 'local', path: local, create: hostId === 'node1' }],
    under: space.enter,
    copy: { windowSeconds: 0.5 }
  })
  const first = await start('node1')
  const second = await start('node2')
  await makeDisk(join(local, 'fits.raw'), 24 * MiB, { blockBytes: 24 * MiB })
  const to = (image: string, more: object = {}) => copySpec('fits.raw', '', { target: { domain: 'shared', image }, ...more })
  const create = (allocation: string, virtualSize: number) =>
    ({ kind: 'storage.createImage', domain: 'shared', image: 'new.raw', virtualSize, allocation })
  const dryRun = async (body: object) => await second.request<{ plan: { bytesReserved: number } }>('PUT', '/tasks/dry?dryRun=true', { body })

  t.match(await dryRun(to('b.raw')), { status: 200, body: { plan: { outcome: 'copy' } } }, 'there is room')
  t.match(await dryRun(create('preallocated', 30 * MiB)), { status: 200, body: { plan: { outcome: 'create', bytesNeeded: 30 * MiB, bytesFree: Number, bytesReserved: Number } } })
  t.match(await dryRun(create('preallocated', 60 * MiB)), { status: 507, body: { code: 'no-space' } })
  t.match(await dryRun(create('sparse', 60 * MiB)), { status: 200 }, 'a sparse one takes no space')

  await first.accept('a', to('a.raw', { bandwidth: stalled }))
  await first.untilDone('shared', 'a.raw', MiB)
  const { status, body } = await second.refused('b', to('b.raw'))
  t.match([status, body], [507, { code: 'no-space', bytesNeeded: Number, bytesFree: Number, bytesReserved: Number }])
  t.ok(Number(body['bytesReserved']) > 16 * MiB, `${body['bytesReserved']} reserved`)
  t.match(await dryRun(to('b.raw')), { status: 507 })
  t.match(await dryRun(create('preallocated', 20 * MiB)), { status: 507 })
  t.match(await second.refused('c', create('preallocated', 20 * MiB)), { status: 507 })
  // nobody works on it any more
  await first.request('DELETE', '/tasks/a')
  await first.finished('a')
  t.match(await dryRun(create('preallocated', 20 * MiB)), { status: 200 })
})
