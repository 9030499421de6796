import t from 'tap'
import { Previews } from '../../src/storage/previews.ts'

/** Previews that end when the test lets them. */
function held () {
  const ends: Array<(error?: Error) => void> = []
  return { ends, preview: async () => { await new Promise<void>((resolve, reject) => { ends.push(error => { if (error === undefined) resolve(); else reject(error) }) }) } }
}
const turn = async () => { await new Promise(resolve => { setImmediate(resolve) }) }

t.test('four run at a time, the others in their order; other domains do not wait', async t => {
  const previews = new Previews()
  const { ends, preview } = held()
  const all = Array.from({ length: 7 }, async (_, n) => await previews.run('a b', async () => { await preview(); return n }))
  await turn()
  t.equal(ends.length, 4)
  const other = held()
  const beside = previews.run('c d', other.preview)
  await turn()
  t.equal(other.ends.length, 1)
  ends[2]?.()
  await turn()
  t.equal(ends.length, 5)
  ends[0]?.(new Error('failed'))
  await t.rejects(Promise.all(all.slice(0, 1)), { message: 'failed' })
  await turn()
  t.equal(ends.length, 6, 'a failure leaves its place, too')
  ends[1]?.()
  await turn()
  t.equal(ends.length, 7)
  for (const end of [...ends, ...other.ends]) end()
  t.same(await Promise.all(all.slice(1)), [1, 2, 3, 4, 5, 6])
  await beside
  const again = previews.run('a b', preview)
  await turn()
  t.equal(ends.length, 8)
  ends[7]?.()
  await again
})

t.test('who waits too long is told so, and takes nobody\'s place', async t => {
  const previews = new Previews(50)
  const { ends, preview } = held()
  const running = Array.from({ length: 4 }, async () => { await previews.run('a', preview) })
  await turn()
  await t.rejects(previews.run('a', preview), { code: 'agent-overloaded', members: { retryAfter: 2 } })
  for (const end of ends) end()
  await Promise.all(running)
  t.equal(ends.length, 4)
  void previews.run('a', preview)
  await turn()
  t.equal(ends.length, 5)
  ends[4]?.()
})
