import t from 'tap'
import type { Task } from '../../src/api/task.ts'
import { compile } from '../../src/events/filter.ts'
import { Ring, type Entry } from '../../src/events/ring.ts'
import { Snapshot } from '../../src/events/snapshot.ts'
import { taskOf } from '../helpers/tasks.ts'

function push (ring: Ring, task: Task): void {
  ring.push({ type: 'task', task }, task, task)
}

function shownBehind (ring: Ring, snapshot: Snapshot): boolean[] {
  const shown: boolean[] = []
  ring.read(0, Infinity, (entry: Entry) => { shown.push(snapshot.shows(entry)); return undefined })
  return shown
}

t.test('a transition is noted as shown exactly when the task was shown after it', async t => {
  const ring = new Ring('i', 16)
  const tasks = new Map([['a', taskOf({ id: 'a' })], ['b', taskOf({ id: 'b' })]])
  const snapshot = new Snapshot(ring, compile({}), (function * () { yield * tasks.values() })())
  const b = taskOf({ id: 'b', revision: 1, state: 'canceling' })
  tasks.set('b', b)
  push(ring, b)
  t.equal(snapshot.read().length, 2)
  t.ok(snapshot.done)
  push(ring, taskOf({ id: 'a', revision: 1 }))
  push(ring, taskOf({ id: 'b', revision: 2 }))
  t.same(shownBehind(ring, snapshot), [true, false, false])
})

t.test('a frame that the ring holds is taken from there, unless the numbers have moved on', async t => {
  const ring = new Ring('i', 16)
  const still = taskOf({ id: 'still' })
  const moving = taskOf({ id: 'moving' })
  push(ring, still)
  push(ring, moving)
  const [first, second] = new Snapshot(ring, compile({}), [still, { ...moving, tick: 1 }]).read()
  t.equal(first, ring.transitionOf('run-still')?.bare)
  t.match(String(second), '"tick":1')
})

t.test('reading stops after a part, and looks at a part only', async t => {
  const ring = new Ring('i', 16)
  let looked = 0
  const snapshot = new Snapshot(ring, compile({ idPrefix: 'x' }), (function * () {
    for (; looked < 1200; looked++) yield taskOf({ id: `t${looked}` })
  })())
  t.same(snapshot.read(), [])
  t.ok(looked < 1200)
  t.notOk(snapshot.done)
  while (!snapshot.done) t.same(snapshot.read(), [])
  t.equal(looked, 1200)
})
