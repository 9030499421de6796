import t from 'tap'
import { setTimeout as sleep } from 'node:timers/promises'
import { Snapshot } from '../../src/gluster/snapshot.ts'

t.test('a thousand readers cost one look', async t => {
  let looks = 0
  const snapshot = new Snapshot(async () => { await sleep(20); return ++looks }, 60_000)
  t.same(new Set(await Promise.all(Array.from({ length: 1000 }, () => snapshot.read()))), new Set([1]))
  t.equal(await snapshot.read(), 1)
})

t.test('an old look is not shown', async t => {
  let looks = 0
  const snapshot = new Snapshot(async () => ++looks, 20)
  t.equal(await snapshot.read(), 1)
  await sleep(40)
  t.equal(await snapshot.read(), 2)
})

t.test('after a change the next reader does not get a look from before it, not even one under way', async t => {
  const looks: Array<(value: string) => void> = []
  const snapshot = new Snapshot(() => new Promise<string>(resolve => { looks.push(resolve) }), 10_000)
  const before = snapshot.read()
  snapshot.expire()
  const after = snapshot.read()
  looks[1]?.('new')
  looks[0]?.('old')
  t.same(await Promise.all([before, after, snapshot.read()]), ['old', 'new', 'new'])
})

t.test('a look that failed is the answer to all who asked meanwhile, and for a moment to all who ask then', async t => {
  const looks: Array<(error: Error) => void> = []
  const snapshot = new Snapshot(() => new Promise<string>((_resolve, reject) => { looks.push(reject) }), 20, 60_000)
  const early = [snapshot.read(), snapshot.read()]
  await sleep(40)
  const readers = [...early, snapshot.read()]
  looks[0]?.(new Error('down'))
  for (const reader of readers) await t.rejects(reader, /down/)
  await t.rejects(snapshot.read(), /down/)
  t.equal(looks.length, 1)
})

t.test('after that moment, and after a change, a look that failed is tried again', async t => {
  for (const keepMs of [0, 60_000]) {
    let looks = 0
    const snapshot = new Snapshot(async () => { if (++looks === 1) throw new Error('down'); return looks }, 10_000, keepMs)
    await t.rejects(snapshot.read(), /down/)
    if (keepMs > 0) snapshot.expire()
    t.equal(await snapshot.read(), 2)
  }
})

t.test('who comes late in a long look gets the next one, together with the others', async t => {
  let looks = 0
  const snapshot = new Snapshot(async () => { await sleep(60); return ++looks }, 30)
  const first = snapshot.read()
  await sleep(40)
  t.same(await Promise.all([first, snapshot.read(), snapshot.read()]), [1, 2, 2])
})

t.test('a look that takes too long is answered with what was seen last; nobody waits longer for the first one', async t => {
  const looks: Array<PromiseWithResolvers> = []
  const snapshot = new Snapshot(() => { const look = promise(); looks.push(look); return look.value }, 0)
  const late = (last: string | undefined): string => {
    if (last === undefined) throw new Error('nothing yet')
    return `${last}, late`
  }
  await t.rejects(new Snapshot(() => promise().value, 0).readWithin(1, late), /nothing yet/)
  const first = snapshot.readWithin(60_000, late)
  looks[0]?.resolve('first')
  t.equal(await first, 'first')
  t.equal(await snapshot.readWithin(1, late), 'first, late')
  looks[1]?.resolve('second')
  await looks[1]?.value
  const third = snapshot.readWithin(60_000, late)
  looks[2]?.resolve('third')
  t.equal(await third, 'third', 'one that comes in time is the answer')
})

interface PromiseWithResolvers { value: Promise<string>, resolve: (value: string) => void }

function promise (): PromiseWithResolvers {
  let resolve = (_value: string): void => {}
  const value = new Promise<string>(_resolve => { resolve = _resolve })
  return { value, resolve: text => { resolve(text) } }
}
