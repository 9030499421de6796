import t from 'tap'
import { Rate } from '../../../src/storage/copy/rate.ts'
import { Clock } from '../../helpers/clock.ts'

t.test('there is no rate before something was moved', async t => {
  t.equal(new Rate().bytesPerSecond, undefined)
})

t.test('the rate is what was moved over the time it took, and later windows weigh more than older ones', async t => {
  const clock = new Clock(t)
  const rate = new Rate(10_000)
  clock.pass(1000)
  rate.add(5000)
  t.equal(rate.bytesPerSecond, 5000)
  for (let second = 0; second < 60; second++) {
    clock.pass(1000)
    rate.add(1000)
  }
  const settled = rate.bytesPerSecond ?? 0
  t.ok(settled >= 1000 && settled < 1020, `${settled}`)
})

t.test('a first window that is over in no time says little of the rate', async t => {
  const clock = new Clock(t)
  const rate = new Rate(10_000)
  clock.pass(10)
  rate.add(1000)
  clock.pass(10_000)
  rate.add(1000)
  t.ok((rate.bytesPerSecond ?? 0) < 150, `${rate.bytesPerSecond}`)
})
