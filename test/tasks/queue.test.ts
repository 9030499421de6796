import t from 'tap'
import { Queue } from '../../src/tasks/queue.ts'

function queueOf (limit: number, names: string) {
  const queue = new Queue<string>(limit)
  const begun: string[] = []
  for (const name of names) queue.enter(name, () => { begun.push(name) })
  return { queue, begun, waiting: () => [...queue.waiting].join('') }
}

t.test('as many as the limit begin at once, the others in order as room is made', async t => {
  const { queue, begun, waiting } = queueOf(2, 'abcde')
  t.same(begun, ['a', 'b'])
  t.equal(waiting(), 'cde')
  t.equal(queue.leave('b'), false)
  t.same(begun, ['a', 'b', 'c'])
  queue.leave('a')
  queue.leave('c')
  t.same(begun, ['a', 'b', 'c', 'd', 'e'])
  t.equal(waiting(), '')
})

t.test('who leaves while waiting never begins, and makes nobody begin', async t => {
  const { queue, begun, waiting } = queueOf(1, 'abc')
  t.equal(queue.leave('b'), true)
  t.same(begun, ['a'])
  t.equal(waiting(), 'c')
  queue.leave('a')
  t.same(begun, ['a', 'c'])
})

t.test('leaving twice, or without having been there, makes no room', async t => {
  const { queue, begun } = queueOf(1, 'ab')
  t.equal(queue.leave('x'), false)
  queue.leave('a')
  queue.leave('a')
  queue.enter('c', () => { begun.push('c') })
  t.same(begun, ['a', 'b'])
})

t.test('one that leaves as it begins lets the next one in', async t => {
  const queue = new Queue<string>(1)
  const begun: string[] = []
  for (const name of 'abc') queue.enter(name, () => { begun.push(name); queue.leave(name) })
  t.same(begun, ['a', 'b', 'c'])
  t.same([...queue.waiting], [])
})
