import { open } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { openArea, prepareArea } from '../../../src/storage/area.ts'
import { copiesNeed, needOf } from '../../../src/storage/domain/copies-need.ts'
import { takeLease } from '../../../src/storage/lease.ts'
import { writeRecord, type CopyRecord } from '../../../src/storage/record.ts'
import { temporaryDirectory } from '../../helpers/directory.ts'
import { MiB } from '../../helpers/images.ts'
import { recordOf } from '../../helpers/records.ts'

const path = await temporaryDirectory(t)
await prepareArea({ id: 'local', path }, true)
const area = await openArea({ id: 'local', path })
t.teardown(async () => { await area.close() })

const copyId = recordOf().copyId
/** A record that is larger than a block, with what it says of its progress. */
const record = (of: Partial<CopyRecord>) => recordOf({ virtualSize: 100 * MiB, done: [], begun: [], bytesMoved: 0, host: { id: 'node2' }, ...of })
const source = (size: number): NonNullable<CopyRecord['source']> =>
  ({ domain: 'x', virtualSize: 100 * MiB, files: [{ image: 's.raw', format: 'raw', identity: { inode: '1', size, modified: '1', changed: '1' } }] })

t.test('what is left of a copy is taken to be like what is done of it', async t => {
  for (const [what, of, bytes] of [
    ['half done, a quarter of it data', { done: [[0, 40 * MiB]], bytesMoved: 10 * MiB }, 15 * MiB],
    ['moved more than once', { done: [[0, 40 * MiB]], bytesMoved: 80 * MiB }, 60 * MiB],
    ['nothing but zeros so far', { done: [[0, 40 * MiB]] }, 0],
    ['just begun, of a small file', { source: source(7 * MiB) }, 7 * MiB],
    ['just begun, of a large file', { source: source(200 * MiB) }, 100 * MiB],
    ['preallocated, and not yet accepted', { allocation: 'preallocated', phase: 'creating' }, 100 * MiB],
    ['preallocated', { allocation: 'preallocated' }, 0]
  ] as const) t.equal(await needOf(area, record(of as Partial<CopyRecord>)), bytes, what)
  const part = await open(join(path, '.vdsm-tasks/parts', copyId), 'w')
  await part.write(Buffer.alloc(MiB))
  await part.sync()
  await part.close()
  t.equal(await needOf(area, record({ source: source(7 * MiB) })), 6 * MiB, 'what is written is taken')
})

t.test('only copies that another host is running count', async t => {
  await writeRecord(area.copies, record({ image: 'a.raw', done: [[0, 50 * MiB]], bytesMoved: 50 * MiB }))
  await writeRecord(area.copies, record({ image: 'left.raw', done: [[0, 50 * MiB]], bytesMoved: 50 * MiB }))
  const need = async (hostId = 'node1', keys: string[] = []) => await copiesNeed(area, { hostId, keys })
  t.equal(await need(), 0, 'nobody works on them')
  const lease = await takeLease(area.leases, 'a.raw', 'exclusive')
  t.equal(await need(), 50 * MiB)
  t.equal(await need('node2'), 0, 'its own')
  t.equal(await need('node1', ['a.raw']), 0, 'one that is known otherwise')
  await writeRecord(area.copies, record({ image: 'a.raw', phase: 'done' }))
  t.equal(await need(), 0)
  await lease?.release()
})
