import t from 'tap'
import { digestOf, foldHosts, formatMark, optionOf, readMarks, wasAway } from '../../src/gluster/marks.ts'

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
  for (const hosts of [1, 100, 140, 200, 5000].map(count => 'a1b2c3d4'.repeat(count))) t.ok(formatMark({ ...long, hosts }).length <= 2000)
  t.match(formatMark({ ...long, hosts: 'a1b2c3d4'.repeat(100) }), 'a1b2c3d4')
  t.notMatch(formatMark({ ...long, hosts: 'a1b2c3d4'.repeat(1000) }), 'a1b2c3d4', 'no part of a list, which would prove what is wrong')
})

t.test('a mark proves of a host that it was not there, or nothing', async t => {
  const brick = (hostUuid: string) => ({ brick: 'h:/b', host: 'h', path: '/b', hostUuid, arbiter: false })
  const [one, two, three] = ['a4cdc1eb-5532-4b40-b03b-a15b0ef0cd52', 'c23addbd-a47b-4ffe-9ef7-059cb78a0f63', 'c1ebc23a-1111-4222-8333-000000000000']
  const hosts = foldHosts({ bricks: [one, two, two].map(brick) })
  t.equal(hosts.length, 16)
  t.notOk(wasAway({ hosts }, one))
  t.notOk(wasAway({ hosts }, two))
  t.ok(wasAway({ hosts }, three), 'also if its id is found across two others')
  for (const odd of [undefined, '', 'xyz', hosts.slice(1)]) t.notOk(wasAway({ ...(odd !== undefined && { hosts: odd }) }, three))
})

t.test('bricks are told apart as a set', async t => {
  t.equal(digestOf(['a:/1', 'b:/2']), digestOf(['b:/2', 'a:/1']))
  t.not(digestOf(['a:/1']), digestOf(['a:/1', 'b:/2']))
})
