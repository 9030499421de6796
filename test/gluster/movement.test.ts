import t from 'tap'
import type { NodeState, OperationNode } from '../../src/api/operation.ts'
import { Movement } from '../../src/gluster/movement.ts'

const operationId = 'a25688b9-2795-412f-b56b-667b23486dc8'
const start = Date.parse('2026-01-01T00:00:00.000Z')

function node (host: string, runtimeSeconds: number, of: { state?: NodeState, files?: number } = {}): OperationNode {
  return { host, hostUuid: host, state: 'running', files: 0, bytes: 0, scanned: 0, failures: 0, skipped: 0, runtimeSeconds, ...of }
}

function look (movement: Movement, seconds: number, ...nodes: OperationNode[]): OperationNode[] {
  return movement.note({ operationId, nodes, observedAt: new Date(start + seconds * 1000).toISOString() })
}

t.test('a host of which nothing changes for a minute is stalled, since the first such look', async t => {
  const movement = new Movement()
  look(movement, 0, node('a', 0), node('b', 1))
  t.notOk(look(movement, 59, node('a', 0), node('b', 60)).some(({ stalledSince }) => stalledSince !== undefined))
  const [a, b] = look(movement, 60, node('a', 0), node('b', 61))
  t.equal(a?.stalledSince, '2026-01-01T00:00:00.000Z')
  t.equal(b?.stalledSince, undefined, 'its run time grows')
  const [again] = look(movement, 70, node('a', 3), node('b', 71))
  t.equal(again?.stalledSince, undefined, 'it has got on')
  look(movement, 70, node('a', 3, { state: 'completed' }))
  t.equal(look(movement, 200, node('a', 3, { state: 'completed' }))[0]?.stalledSince, undefined, 'what has ended stands still, rightly')
})

t.test('an operation is stalled when none of its running hosts gets on', async t => {
  const movement = new Movement()
  t.equal(movement.stalledSince(operationId), undefined)
  look(movement, 0, node('a', 0), node('b', 1, { state: 'completed' }))
  t.equal(movement.stalledSince(operationId), '2026-01-01T00:00:00.000Z', 'that look is long ago')
  movement.note({ operationId, nodes: [node('a', 0), node('c', 5)], observedAt: new Date().toISOString() })
  t.equal(movement.stalledSince(operationId), undefined, 'one of them was not there before')
  movement.keep(new Set())
  t.equal(movement.stalledSince(operationId), undefined)
})

t.test('a host whose numbers go back was restarted, and stays so', async t => {
  const movement = new Movement()
  look(movement, 0, node('a', 100, { files: 50 }))
  t.equal(look(movement, 5, node('a', 105, { files: 51 }))[0]?.restarted, undefined)
  t.equal(look(movement, 10, node('a', 2, { files: 0, state: 'completed' }))[0]?.restarted, true)
  t.equal(look(movement, 15, node('a', 2, { files: 0, state: 'completed' }))[0]?.restarted, true)
})

t.test('a host that runs and is far behind the others was restarted; one that has ended may have had little to do', async t => {
  const [a, b, c] = look(new Movement(), 0, node('a', 300), node('b', 10), node('c', 2, { state: 'completed' }))
  t.strictSame([a, b, c].map(host => host?.restarted), [undefined, true, undefined])
})
