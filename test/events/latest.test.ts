import t from 'tap'
import { Latest } from '../../src/events/latest.ts'

const everything = () => true

function read (latest: Latest, tick: number, passes: Parameters<Latest['read']>[1] = everything): string {
  return latest.read(tick, passes).join('')
}

function filled (...keys: string[]): Latest {
  const latest = new Latest()
  for (const key of keys) latest.set(key, { type: 'progress', task: { id: key, kind: 'k', runId: key } }, Buffer.from(key))
  return latest
}

t.test('only the newest numbers of each are there, in the order of their age', async t => {
  t.equal(read(filled('a', 'b', 'a', 'c', 'b'), 0), 'acb')
})

t.test('from every place on exactly what was set later is read', async t => {
  const latest = filled('a', 'b', 'a', 'c', 'b')
  const expected = ['acb', 'acb', 'acb', 'cb', 'b', '']
  for (const [tick, frames] of expected.entries()) t.equal(read(latest, tick), frames, `after ${tick}`)
})

t.test('numbers can be taken out at every place', async t => {
  for (const [key, left] of [['a', 'bc'], ['b', 'ac'], ['c', 'ab'], ['d', 'abc']] as const) {
    const latest = filled('a', 'b', 'c')
    latest.delete(key)
    t.equal(read(latest, 0), left)
    latest.set('e', { type: 'progress' }, Buffer.from('e'))
    t.equal(read(latest, 0), `${left}e`)
  }
})

t.test('only what passes is read', async t => {
  t.equal(read(filled('a', 'b', 'c'), 0, ({ task }) => task?.id !== 'b'), 'ac')
})
