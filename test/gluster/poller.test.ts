import { once, EventEmitter } from 'node:events'
import t, { type Test } from 'tap'
import type { Operation, OperationList } from '../../src/api/operation.ts'
import { AppError } from '../../src/errors.ts'
import { Poller } from '../../src/gluster/poller.ts'

function operationOf (of: Partial<Operation> = {}): Operation {
  const numbers = { files: 0, bytes: 0, scanned: 0, failures: 0, skipped: 0, runtimeSeconds: 0 }
  return { operationId: 'X', kind: 'rebalance', volume: 'v0', state: 'running', nodes: [], totals: numbers, complete: true, missing: [], observedAt: 'now', ...of }
}

/** A poller that looks when it is told to, and the looks it is given. */
function watch (t: Test, looks: Array<Operation[] | OperationList | Error>) {
  const told: string[] = []
  const said: string[] = []
  const looked = new EventEmitter()
  const poller = new Poller({
    operations: {
      async list (): Promise<OperationList> {
        const look = looks.shift() ?? []
        setImmediate(() => looked.emit('look'))
        if (look instanceof Error) throw look
        return Array.isArray(look) ? { items: look, observedAt: 'later' } : look
      }
    },
    pollSeconds: 1000,
    idleSeconds: 1000,
    onChange: operation => { told.push(`${operation.operationId} ${operation.state}`) },
    onProgress: operation => { told.push(`${operation.operationId} progress`) },
    log: { info: (_fields, message) => { said.push(message) }, warn: (_fields, message) => { said.push(message) } }
  })
  t.teardown(() => { poller.stop() })
  const next = async (): Promise<void> => {
    const look = once(looked, 'look')
    poller.nudge()
    await look
  }
  return { poller, told, said, next, first: async () => { const look = once(looked, 'look'); poller.start(); await look } }
}

t.test('what runs at the start is told, what has ended before is not', async t => {
  const { told, first } = watch(t, [[operationOf(), operationOf({ operationId: 'old', state: 'completed' })]])
  await first()
  t.same(told, ['X running'])
})

t.test('new states are told as changes, new numbers as progress, nothing new not at all', async t => {
  const moved = operationOf({ totals: { files: 1, bytes: 1, scanned: 1, failures: 0, skipped: 0, runtimeSeconds: 1 } })
  const { told, first, next } = watch(t, [[], [operationOf()], [moved], [{ ...moved, complete: false, missing: ['node2'] }], [{ ...moved, state: 'completed' }], [{ ...moved, state: 'completed' }], []])
  await first()
  for (let look = 0; look < 6; look++) await next()
  t.same(told, ['X running', 'X progress', 'X running', 'X completed', 'X gone'])
})

t.test('a look that fails, or cannot tell, takes nothing back', async t => {
  const { told, said, first, next } = watch(t, [[operationOf()], new AppError('gluster-unavailable', 'down'), new AppError('gluster-unavailable', 'down'), [operationOf({ state: 'unknown', problem: { code: 'gluster-busy', detail: '' } })], { items: [], unknown: [{ volume: 'v0', code: 'gluster-busy', detail: '' }], observedAt: 'later' }, [operationOf()]])
  await first()
  for (let look = 0; look < 5; look++) await next()
  t.same(told, ['X running', 'X progress'])
  t.equal(said.length, 1, 'that Gluster is not there is said once')
})

t.test('what ended here is told with its last numbers, and not as gone', async t => {
  const { poller, told, first, next } = watch(t, [[operationOf()], []])
  await first()
  poller.settle(operationOf({ state: 'stopped' }))
  await next()
  t.same(told, ['X running', 'X stopped'])
})

t.test('after the stop nothing is told', async t => {
  const { poller, told, first } = watch(t, [[]])
  await first()
  poller.stop()
  poller.nudge()
  t.same(told, [])
})
