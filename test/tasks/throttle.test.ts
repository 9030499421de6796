import t, { type Test } from 'tap'
import { Throttle } from '../../src/tasks/throttle.ts'
import { Clock } from '../helpers/clock.ts'

function throttleOf (t: Test): { clock: Clock, throttle: Throttle<number>, passed: number[] } {
  const passed: number[] = []
  const clock = new Clock(t)
  return { clock, throttle: new Throttle<number>(500, value => { passed.push(value) }), passed }
}

t.test('the first is passed on at once, then the newest of each interval', async t => {
  const { clock, throttle, passed } = throttleOf(t)
  for (const value of [1, 2, 3]) throttle.push(value)
  clock.pass(499)
  t.same(passed, [1])
  clock.pass(1)
  t.same(passed, [1, 3])
  throttle.push(4)
  clock.pass(500)
  t.same(passed, [1, 3, 4])
  clock.pass(500)
  t.equal(clock.waiting, 0, 'who has nothing to say keeps no timer')
  throttle.push(5)
  t.same(passed, [1, 3, 4, 5])
})

t.test('what is discarded is not passed on, and what comes next not before its time', async t => {
  const { clock, throttle, passed } = throttleOf(t)
  throttle.push(1)
  throttle.push(2)
  throttle.discard()
  throttle.push(3)
  t.same(passed, [1])
  clock.pass(500)
  t.same(passed, [1, 3])
})

t.test('a flush passes on what waits, and nothing twice; a stop forgets it and leaves no timer', async t => {
  const { clock, throttle, passed } = throttleOf(t)
  throttle.push(1)
  throttle.push(2)
  throttle.flush()
  throttle.flush()
  t.same(passed, [1, 2])
  throttle.push(3)
  throttle.stop()
  t.equal(clock.waiting, 0)
  clock.pass(1000)
  t.same(passed, [1, 2])
})
