import t from 'tap'
import { progressOf } from '../../src/storage/record-progress.ts'
import { recordOf } from '../helpers/records.ts'

t.test('a record is told without what callers need not know', async t => {
  t.match(progressOf(recordOf()), { bytesTotal: 4096, bytesDone: 1024, source: { domain: 'local', image: 'source.raw' }, taskId: 'nightly', epoch: 1 })
  t.match(progressOf(recordOf({ phase: 'done', done: [], begun: [] })), { bytesDone: 4096 })
  t.same(Object.entries(progressOf(recordOf())).filter(([, value]) => value === undefined), [], 'what is not known is absent')
})

t.test('a chain is told as a whole: what its volumes have, and what is still to come', async t => {
  const [image, base, middle] = ['8c2e0c5e-7a37-4d0c-8a55-0d5b7f1b9c11', '2b1a8f7c-5d0e-4c5a-9a5e-0d6f3c1b7e42', '4d0c8a55-5d0e-4c5a-9a5e-0d6f3c1b7e42']
  const chain = { id: base, volumes: [{ image, volume: base, bytes: 1000 }, { image, volume: middle, bytes: 2000 }] }
  const top = recordOf({ phase: 'creating', chain, done: [], begun: [] })
  const lower = [recordOf({ phase: 'done', virtualSize: 1000, done: [] }), recordOf({ virtualSize: 2000, done: [[0, 500]], bytesPerSecond: 77, checkpointAt: '2026-01-01T00:00:09.000Z' })]
  t.match(progressOf(top), { phase: 'creating', bytesTotal: 4096 + 3000, bytesDone: 0 })
  t.match(progressOf(top, lower), { phase: 'copying', bytesTotal: 4096 + 3000, bytesDone: 1500, bytesPerSecond: 77, checkpointAt: '2026-01-01T00:00:09.000Z' })
  t.match(progressOf({ ...top, phase: 'done' }), { bytesTotal: 4096 + 3000, bytesDone: 4096 + 3000 })
})

t.test('what a newer agent says of itself besides is not passed on', async t => {
  const record = recordOf()
  t.strictSame(progressOf({ ...record, host: { id: 'node1', rack: 7 } as typeof record.host }).host, { id: 'node1' })
})
