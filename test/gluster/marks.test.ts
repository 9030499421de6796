import t from 'tap'
import { digestOf, formatMark, optionOf, readMarks } from '../../src/gluster/marks.ts'

const mark = { taskId: 'a', hostId: 'h', at: '2026-01-01T00:00:00.000Z', what: 'rebalance' }

t.test('marks are read as they were written', async t => {
  const starting = { ...mark, startId: '1', previous: 'W' }
  const started = { ...mark, startId: '1', operationId: 'X' }
  const options = new Map([[optionOf('rebalance', 'starting'), formatMark(starting)], [optionOf('rebalance', 'started'), formatMark(started)]])
  t.same(readMarks({ options }, 'rebalance'), { starting, started })
  t.same(readMarks({ options }, 'remove-brick'), {})
  t.equal(optionOf('remove-brick', 'started'), 'user.vdsm-tasks.remove-brick')
})

t.test('what others put there is no mark', async t => {
  for (const value of ['', '-', 'null', '[]', '7', '{}', '{"taskId":1}', JSON.stringify(mark), JSON.stringify({ ...mark, at: 'then', startId: '1', operationId: 'X' }), '{"taskId":']) {
    const options = new Map([[optionOf('rebalance', 'starting'), value], [optionOf('rebalance', 'started'), value]])
    t.same(readMarks({ options }, 'rebalance'), {}, value)
  }
})

t.test('the longest mark is far from what glusterd dies of', async t => {
  const long = { ...mark, taskId: 'x'.repeat(255), hostId: 'y'.repeat(5000), startId: 'z'.repeat(36), operationId: 'o'.repeat(36) }
  t.ok(formatMark(long).length < 1000)
})

t.test('bricks are told apart as a set', async t => {
  t.equal(digestOf(['a:/1', 'b:/2']), digestOf(['b:/2', 'a:/1']))
  t.not(digestOf(['a:/1']), digestOf(['a:/1', 'b:/2']))
})
