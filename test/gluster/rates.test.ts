import t from 'tap'
import type { OperationNode } from '../../src/api/operation.ts'
import { Rates } from '../../src/gluster/rates.ts'

function look (bytes: number, runtimeSeconds: number, of: { hosts?: string[], state?: 'running' | 'completed', kind?: 'rebalance' | 'fix-layout' } = {}) {
  const { hosts = ['a', 'b'], state = 'running', kind = 'rebalance' } = of
  const totals = { files: bytes / 10, bytes, scanned: 0, failures: 0, skipped: 0, runtimeSeconds }
  const nodes: OperationNode[] = hosts.map(host => ({ host, hostUuid: host, state: 'running', ...totals }))
  return { operationId: 'X', state, kind, nodes, totals }
}

t.test('at first the rate is that of the whole run, then what was measured lately', async t => {
  const rates = new Rates()
  t.equal(rates.measure(look(100, 1), 0), undefined, 'a second says nothing')
  t.same(rates.measure(look(1000, 10), 1000), { bytesPerSecond: 100, filesPerSecond: 10, basis: 'whole-run', seconds: 10 })
  t.same(rates.measure(look(1100, 12), 5000), { bytesPerSecond: 200, filesPerSecond: 20, basis: 'recent', seconds: 5 })
  t.same(rates.measure(look(1100, 100), 100_000), { bytesPerSecond: 11, filesPerSecond: 1.1, basis: 'whole-run', seconds: 100 }, 'older looks do not count')
})

t.test('a host that comes or goes is no movement', async t => {
  const rates = new Rates()
  rates.measure(look(1000, 10), 0)
  t.equal(rates.measure(look(5000, 10, { hosts: ['a', 'b', 'c'] }), 10_000)?.basis, 'whole-run')
})

t.test('what has ended, moves nothing or is forgotten has no rate', async t => {
  const rates = new Rates()
  rates.measure(look(1000, 10), 0)
  t.equal(rates.measure(look(2000, 20, { state: 'completed' }), 10_000), undefined)
  t.equal(rates.measure(look(2000, 20, { kind: 'fix-layout' }), 10_000), undefined)
  rates.measure(look(1000, 10), 20_000)
  rates.keep(new Set())
  t.equal(rates.measure(look(2000, 20), 30_000)?.basis, 'whole-run')
})
