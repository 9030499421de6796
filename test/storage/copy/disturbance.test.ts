import { link, open, rename, truncate, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { openArea, prepareArea } from '../../../src/storage/area.ts'
import { createPart } from '../../../src/storage/copy/part.ts'
import { Session } from '../../../src/storage/copy/session.ts'
import { takeImageLease } from '../../../src/storage/image-lease.ts'
import { copyTarget } from '../../../src/storage/layout/copy-target.ts'
import { keyOf, recordText, writeRecord } from '../../../src/storage/record.ts'
import { closeFd } from '../../../src/system/directory.ts'
import { temporaryDirectory } from '../../helpers/directory.ts'
import { recordOf } from '../../helpers/records.ts'

// The same as test/integration/disturbed-copy.test.ts does to an agent, done to a session.

const size = 1024 * 1024

async function sceneIn (t: Test, format: 'raw' | 'qcow2') {
  const path = await temporaryDirectory(t)
  await prepareArea({ id: 'local', path }, true)
  const area = await openArea({ id: 'local', path })
  const record = recordOf({ image: `copy.${format}`, format, virtualSize: size })
  const part = await createPart(area, record)
  const lease = await takeImageLease(area, record, 'exclusive')
  if (lease === undefined) throw new Error('the lease is taken')
  t.teardown(async () => {
    await closeFd(part.fd)
    await lease.release()
    await area.close()
  })
  await writeRecord(area.copies, record)
  const of = { area, lease, record, part, target: copyTarget(area, record), signal: new AbortController().signal }
  // it copies nothing, so that it needs no source
  const session = new Session(of as unknown as ConstructorParameters<typeof Session>[0])
  await session.assertOwnership()
  return { session, record, data: join(path, '.vdsm-tasks/parts', record.copyId), file: join(path, '.vdsm-tasks/copies', `${keyOf(record)}.json`) }
}

for (const format of ['raw', 'qcow2'] as const) {
  t.test(`whoever touches the file that a copy to ${format} is written to ends it`, async t => {
    const { session, data } = await sceneIn(t, format)
    const isNoticed = async (detail: RegExp) => { await t.rejects(session.assertOwnership(), { code: 'target-changed', message: detail }) }
    await link(data, `${data}.other`)
    await isNoticed(/another name/)
    await unlink(data)
    await isNoticed(/renamed or removed/)
    await writeFile(data, 'of somebody else')
    await isNoticed(/exchanged/)
    await rename(`${data}.other`, data)
    await t.resolves(session.assertOwnership(), 'it is as it was')
    // a qcow2 file becomes longer when it is written
    const handle = await open(data, 'r+')
    const { size: before } = await handle.stat()
    await handle.truncate(before + 65536)
    if (format === 'raw') await isNoticed(/cut or lengthened/)
    else await session.assertOwnership()
    await handle.truncate(before)
    await handle.close()
    if (format === 'raw') await session.assertOwnership()
    else await isNoticed(/cut or lengthened/)
    await truncate(data, 512)
    await isNoticed(/cut or lengthened/)
  })
}

t.test('whoever writes the record of a copy ends it', async t => {
  const { session, record, file } = await sceneIn(t, 'raw')
  for (const text of [recordText({ ...record, done: [[0, size]] }), recordText(record) + ' ', recordText({ ...record, host: { id: 'other' } }), '', 'rubbish']) {
    await writeFile(file, text)
    await t.rejects(session.assertOwnership(), { code: 'target-changed', message: /record was written/ })
    await t.rejects(session.checkpoint(() => ({ bytesMoved: 1 })), { code: 'target-changed' })
  }
  await writeFile(file, recordText(record))
  await link(file, `${file}.other`)
  await t.rejects(session.assertOwnership(), { code: 'target-changed', message: /another name/ })
  await unlink(`${file}.other`)
  await session.checkpoint(() => ({ bytesMoved: 2 }))
  await writeFile(file, recordText(record))
  await t.rejects(session.assertOwnership(), { code: 'target-changed' }, 'what it was before is somebody else\'s, too')
})
