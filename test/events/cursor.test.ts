import t from 'tap'
import { cursorOf, endCursor, locate } from '../../src/events/cursor.ts'

const extent = { instance: 'a-b', oldest: 11, newest: 20 }
const at = (seq: number) => ({ at: 'sequence', seq })
const reset = (reason: string) => ({ at: 'reset', reason })

const table: readonly [string | undefined, object][] = [
  [undefined, { at: 'beginning' }],
  ['', { at: 'beginning' }],
  ['a-b-20', at(20)],
  ['a-b-15', at(15)],
  ['a-b-10', at(10)],
  ['a-b-9', reset('evicted')],
  ['a-b-0', reset('evicted')],
  ['a-b-21', reset('future')],
  ['a-b-9007199254740991', reset('future')],
  ['a-b-99999999999999999999', reset('malformed')],
  ['a-15', reset('instance-changed')],
  ['b-a-end', reset('instance-changed')],
  ['a-b-end', { at: 'end' }],
  ['15', reset('malformed')],
  ['-15', reset('malformed')],
  ['a-b', reset('malformed')],
  ['a-b-', reset('malformed')],
  ['a-b-015', reset('malformed')],
  ['a-b-1.5', reset('malformed')],
  ['a-b-15 ', reset('malformed')],
  ['a-b--15', reset('instance-changed')],
  ['a-b-15\n', reset('malformed')],
  ['\u0000', reset('malformed')],
  ['x'.repeat(100_000), reset('malformed')]
]

t.test('every cursor leads somewhere', async t => {
  for (const [cursor, start] of table) t.same(locate(cursor, extent), start, JSON.stringify(cursor?.slice(0, 40)))
})

t.test('what is written as a cursor is found again', async t => {
  for (const seq of [10, 15, 20]) t.same(locate(cursorOf('a-b', seq), extent), at(seq))
  t.same(locate(endCursor('a-b'), extent), { at: 'end' })
})

t.test('before the first event the only place is the beginning of the sequence', async t => {
  const empty = { instance: 'i', oldest: 1, newest: 0 }
  t.same(locate('i-0', empty), at(0))
  t.same(locate('i-1', empty), reset('future'))
})
