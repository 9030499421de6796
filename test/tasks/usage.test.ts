import t from 'tap'
import { Usage } from '../../src/tasks/usage.ts'

const uses = (shared: string, exclusive: string) => ({ shared: [...shared], exclusive: [...exclusive] })

t.test('two readers share, a writer stands alone, whoever came first', async t => {
  for (const [first, second, conflict] of [
    [uses('a', ''), uses('a', ''), undefined],
    [uses('a', ''), uses('', 'a'), 'a'],
    [uses('', 'a'), uses('a', ''), 'a'],
    [uses('', 'a'), uses('', 'a'), 'a'],
    [uses('a', 'b'), uses('a', 'c'), undefined],
    [uses('a', 'b'), uses('b', 'c'), 'b'],
    [uses('a', 'b'), uses('c', 'a'), 'a'],
    [uses('', ''), uses('', 'a'), undefined]
  ] as const) {
    const usage = new Usage<string>()
    usage.take(first, 'holder')
    t.same(usage.conflict(second), conflict === undefined ? undefined : { name: conflict, holder: 'holder' }, JSON.stringify([first, second]))
  }
})

t.test('what was released is free, and what another reader still has is not', async t => {
  const usage = new Usage<string>()
  usage.take(uses('a', 'b'), 'one')
  usage.take(uses('a', ''), 'two')
  usage.release(uses('a', 'b'), 'one')
  t.equal(usage.conflict(uses('', 'b')), undefined)
  t.same(usage.conflict(uses('', 'a')), { name: 'a', holder: 'two' })
  usage.release(uses('a', ''), 'two')
  t.equal(usage.conflict(uses('', 'a')), undefined)
})

t.test('names of a prototype are names like any other', async t => {
  const usage = new Usage<string>()
  t.equal(usage.conflict({ shared: ['__proto__'], exclusive: ['constructor'] }), undefined)
  usage.take({ shared: [], exclusive: ['__proto__'] }, 'holder')
  t.same(usage.conflict({ shared: ['__proto__'], exclusive: [] }), { name: '__proto__', holder: 'holder' })
})
