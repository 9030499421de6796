import t from 'tap'
import { Snapshots } from '../../src/storage/snapshot.ts'

t.test('those who ask while a look is under way share it', async t => {
  const snapshots = new Snapshots<number>(60_000)
  let looks = 0
  let answer: (value: number) => void = () => {}
  const look = async () => {
    looks++
    return await new Promise<number>(resolve => { answer = resolve })
  }
  const askers = [snapshots.get('a', look), snapshots.get('a', look), snapshots.get('a', look)]
  answer(7)
  t.same(await Promise.all(askers), [7, 7, 7])
  t.equal(await snapshots.get('a', look), 7, 'an answer that is young enough is given again')
  t.equal(looks, 1)
})

t.test('keys do not share, forgetting makes the next look fresh', async t => {
  const snapshots = new Snapshots<number>(60_000)
  let looks = 0
  const look = async () => ++looks
  t.equal(await snapshots.get('a', look), 1)
  t.equal(await snapshots.get('b', look), 2)
  snapshots.forget()
  t.equal(await snapshots.get('a', look), 3)
})

t.test('who needs a look that begins now gets one, and shares it', async t => {
  const snapshots = new Snapshots<number>(60_000)
  let looks = 0
  const look = async () => ++looks
  t.equal(await snapshots.get('a', look), 1)
  const since = performance.now()
  t.same(await Promise.all([snapshots.get('a', look, since), snapshots.get('a', look, since)]), [2, 2])
  t.equal(await snapshots.get('a', look), 2)
})

t.test('a failure is told to all who wait for it, and to nobody after them', async t => {
  const snapshots = new Snapshots<number>(60_000)
  const fail = async () => { throw new Error('no') }
  await Promise.all([t.rejects(snapshots.get('a', fail), { message: 'no' }), t.rejects(snapshots.get('a', fail), { message: 'no' })])
  t.equal(await snapshots.get('a', async () => 1), 1)
})

t.test('a look that failed late does not remove the one that came after it', async t => {
  const snapshots = new Snapshots<number>(60_000)
  let fail: (error: Error) => void = () => {}
  const late = snapshots.get('a', async () => await new Promise<number>((_resolve, reject) => { fail = reject }))
  snapshots.forget()
  t.equal(await snapshots.get('a', async () => 1), 1)
  fail(new Error('late'))
  await t.rejects(late)
  t.equal(await snapshots.get('a', async () => 2), 1)
})

t.test('an answer of age zero is never given twice', async t => {
  const snapshots = new Snapshots<number>(0)
  let looks = 0
  const look = async () => ++looks
  t.equal(await snapshots.get('a', look), 1)
  t.equal(await snapshots.get('a', look), 2)
})
