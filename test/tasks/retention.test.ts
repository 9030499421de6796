import t from 'tap'
import { Retention } from '../../src/tasks/retention.ts'
import { Run } from '../../src/tasks/run.ts'
import { Clock } from '../helpers/clock.ts'
import { copyOf } from '../helpers/http-agent.ts'

function runOf (id: string): Run {
  return new Run({ id, spec: copyOf('a', 'b'), specDigest: '', cancelable: true, instance: 'i', replaces: undefined, createdAt: 0 })
}

function retentionOf (retentionMs: number) {
  const expired: string[] = []
  const retention = new Retention(retentionMs, ({ id }) => { expired.push(id) })
  return { retention, expired, add: (id: string) => { const run = runOf(id); retention.add(run); return run } }
}

t.test('runs expire in the order in which they finished, each after its whole time', async t => {
  const clock = new Clock(t)
  const { expired, add } = retentionOf(100)
  add('a')
  clock.pass(40)
  add('b')
  clock.pass(59)
  t.same(expired, [])
  clock.pass(1)
  t.same(expired, ['a'])
  clock.pass(39)
  t.same(expired, ['a'])
  clock.pass(1)
  t.same(expired, ['a', 'b'])
  add('c')
  clock.pass(100)
  t.same(expired, ['a', 'b', 'c'])
})

t.test('the time of expiry is told in wall-clock time', async t => {
  const clock = new Clock(t)
  const { add } = retentionOf(900_000)
  t.equal(add('a').expiresAt, clock.wall + 900_000)
})

t.test('setting the wall clock neither prolongs nor shortens', async t => {
  const clock = new Clock(t)
  const { expired, add } = retentionOf(100)
  add('a')
  clock.pass(50)
  clock.wall = 1
  add('b')
  clock.pass(50)
  t.same(expired, ['a'])
  clock.wall = 9e12
  clock.pass(49)
  t.same(expired, ['a'])
  clock.pass(1)
  t.same(expired, ['a', 'b'])
})

t.test('one timer serves them all', async t => {
  const clock = new Clock(t)
  const { expired, add } = retentionOf(100)
  for (let n = 0; n < 1000; n++) add(String(n))
  t.equal(clock.set, 1)
  clock.pass(100)
  t.equal(expired.length, 1000)
  t.equal(clock.set, 1)
})

t.test('a run that was removed does not expire, and does not keep the others back', async t => {
  const clock = new Clock(t)
  const { retention, expired, add } = retentionOf(100)
  const a = add('a')
  clock.pass(10)
  const b = add('b')
  add('c')
  retention.remove(a)
  retention.remove(a)
  clock.pass(100)
  t.same(expired, ['b', 'c'])
  retention.remove(b)
})

t.test('a retention beyond what a timer can hold does not expire at once', async t => {
  const clock = new Clock(t)
  const { expired, add } = retentionOf(2 ** 31 + 1000)
  add('a')
  clock.pass(2 ** 31 - 1)
  t.same(expired, [])
  clock.pass(1001)
  t.same(expired, ['a'])
})

t.test('after a stop nothing expires', async t => {
  const clock = new Clock(t)
  const { retention, expired, add } = retentionOf(100)
  add('a')
  retention.stop()
  clock.pass(1000)
  t.same(expired, [])
})

t.test('in real time, too, nothing expires before it is due', async t => {
  const expired = await new Promise<{ at: number, run: Run }>(resolve => {
    // the process may not end before: the timer itself does not keep it
    const alive = setTimeout(() => {}, 60_000)
    const retention = new Retention(20, run => {
      clearTimeout(alive)
      resolve({ at: Date.now(), run })
    })
    retention.add(runOf('a'))
  })
  t.ok(expired.run.expiresAt !== undefined && expired.at >= expired.run.expiresAt)
})
