import { mkdir, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { openArea, prepareArea, type Area } from '../../../src/storage/area.ts'
import { createPart } from '../../../src/storage/copy/part.ts'
import { Session } from '../../../src/storage/copy/session.ts'
import { takeImageLease } from '../../../src/storage/image-lease.ts'
import { copyTarget } from '../../../src/storage/layout/copy-target.ts'
import { removeRecord, writeRecord } from '../../../src/storage/record.ts'
import { temporaryDirectory } from '../../helpers/directory.ts'
import { MountSpace, unlessRoot } from '../../helpers/mount-space.ts'
import { needs } from '../../helpers/needs.ts'
import { recordOf } from '../../helpers/records.ts'

needs('bindfs')

/** A session that holds a lease; it copies nothing, so that it needs no source. */
async function sessionIn (area: Area): Promise<Session> {
  const record = recordOf()
  const part = await createPart(area, record)
  const target = copyTarget(area, record)
  const lease = await takeImageLease(area, record, 'exclusive')
  if (lease === undefined) throw new Error('the lease is taken')
  await writeRecord(area.copies, record)
  return new Session({ area, lease, record, part, target, signal: new AbortController().signal } as unknown as ConstructorParameters<typeof Session>[0])
}

t.test('on a shared file system', { skip: unlessRoot }, async t => {
  const top = await temporaryDirectory(t)
  const [below, between, at] = ['below', 'between', 'at'].map(name => join(top, name)) as [string, string, string]
  for (const path of [below, between, at]) await mkdir(path)
  const space = await MountSpace.make(t)
  await space.mountFuse(between, 'bindfs', '-f', below, between)
  await space.mountFuse(at, 'bindfs', '-f', '--multithreaded', between, at)
  const path = space.path(at)
  await prepareArea({ id: 'local', path }, true)
  const area = await openArea({ id: 'local', path })
  t.teardown(async () => { await area.close() })
  t.notOk(area.local)
  const session = await sessionIn(area)

  // lanes look before each window, while checkpoints replace the record: it was then not found now and again
  const written = new AbortController()
  const lanes = Array.from({ length: 2 }, async () => { while (!written.signal.aborted) await session.assertOwnership() })
  for (let n = 1; n <= 60; n++) await session.checkpoint(() => ({ bytesMoved: n }))
  written.abort()
  await t.resolves(Promise.all(lanes), 'a copy whose record is just being replaced is its host\'s')
  t.equal(session.record.bytesMoved, 60)

  await writeRecord(area.copies, { ...session.record, epoch: session.record.epoch + 1 })
  await t.rejects(session.assertOwnership(), { code: 'lease-lost', message: /continued/ })
  await unlink(join(path, '.vdsm-tasks/parts', session.record.copyId))
  await writeRecord(area.copies, session.record)
  await t.rejects(session.assertOwnership(), { code: 'target-changed', message: /renamed or removed/ })
  await removeRecord(area.copies, 'copy.raw')
  await t.rejects(session.assertOwnership(), { code: 'lease-lost', message: /is gone/ }, 'looked for again, and still not there')
})
