import t from 'tap'
import { Turns } from '../../src/gluster/turns.ts'

const never = new AbortController().signal

/** Work that says when it begins, and ends when it is told to. */
function work (log: string[], name: string) {
  let end = (): void => {}
  const ended = new Promise<void>(resolve => { end = resolve })
  return { end, run: async () => { log.push(name); await ended } }
}

const soon = (): Promise<void> => new Promise(resolve => { setImmediate(resolve) })

t.test('one at a time per volume, in order; other volumes do not wait', async t => {
  const turns = new Turns()
  const log: string[] = []
  const [a, b, other] = [work(log, 'a'), work(log, 'b'), work(log, 'other')]
  const all = [turns.take('v', never, a.run), turns.take('v', never, b.run), turns.take('w', never, other.run)]
  await soon()
  t.same(log, ['a', 'other'])
  a.end()
  await soon()
  t.same(log, ['a', 'other', 'b'])
  b.end()
  other.end()
  await Promise.all(all)
})

t.test('a turn for all volumes waits for every one, and they for it', async t => {
  const turns = new Turns()
  const log: string[] = []
  const [a, everybody, b] = [work(log, 'a'), work(log, 'everybody'), work(log, 'b')]
  const taken = [turns.take('v', never, a.run), turns.take(undefined, never, everybody.run), turns.take('w', never, b.run)]
  await soon()
  t.same(log, ['a'])
  a.end()
  await soon()
  t.same(log, ['a', 'everybody'])
  everybody.end()
  await soon()
  t.same(log, ['a', 'everybody', 'b'])
  b.end()
  await Promise.all(taken)
})

t.test('who gives up waiting does not let the next one in early', async t => {
  const turns = new Turns()
  const log: string[] = []
  const [a, b, c] = [work(log, 'a'), work(log, 'b'), work(log, 'c')]
  const first = turns.take('v', never, a.run)
  const giveUp = new AbortController()
  const second = turns.take('v', giveUp.signal, b.run)
  const third = turns.take('v', never, c.run)
  giveUp.abort(new Error('enough'))
  await t.rejects(second, /enough/)
  await soon()
  t.same(log, ['a'])
  a.end()
  await soon()
  t.same(log, ['a', 'c'])
  c.end()
  await Promise.all([first, third])
})

t.test('work that fails ends its turn', async t => {
  const turns = new Turns()
  await t.rejects(turns.take('v', never, async () => { throw new Error('no') }), /no/)
  t.equal(await turns.take('v', never, async () => 7), 7)
})
