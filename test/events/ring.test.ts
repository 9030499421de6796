import t from 'tap'
import { Ring, type Entry } from '../../src/events/ring.ts'
import { taskOf } from '../helpers/tasks.ts'

const everything = ({ frame }: Entry) => frame

function filled (capacity: number, events: number): Ring {
  const ring = new Ring('i', capacity)
  for (let n = 1; n <= events; n++) ring.push({ type: 'image' }, { n })
  return ring
}

t.test('for every fill level and every place, what is behind the place is read, or it is known to be gone', async t => {
  for (let events = 0; events <= 9; events++) {
    const ring = filled(4, events)
    t.equal(ring.newest, events)
    for (let seq = 0; seq <= events; seq++) {
      t.equal(ring.reaches(seq), events - seq <= 4, `${seq} of ${events}`)
      if (!ring.reaches(seq)) continue
      const { frames, bytes, seq: end } = ring.read(seq, Infinity, everything)
      const expected = Array.from({ length: events - seq }, (_, n) => `id: i-${seq + n + 1}\nevent: image\ndata: {"n":${seq + n + 1}}\n\n`)
      t.same(frames.map(String), expected)
      t.equal(end, events)
      t.equal(bytes, ring.bytesSince(seq))
      t.equal(bytes, Buffer.concat(frames).length)
    }
  }
})

t.test('a frame without its id is the tail of the same bytes', async t => {
  const { frames } = filled(4, 1).read(0, Infinity, ({ bare }) => bare)
  t.same(frames.map(String), ['event: image\ndata: {"n":1}\n\n'])
})

t.test('reading stops before the limit is passed, but takes at least one frame', async t => {
  const ring = filled(100, 9)
  const length = ring.bytesSince(8)
  t.same(ring.read(0, 3 * length, everything), { ...ring.read(0, 4 * length - 1, everything), seq: 3 })
  t.equal(ring.read(0, 1, everything).seq, 1)
  t.equal(ring.read(0, 1, ({ seq, frame }) => seq > 5 ? frame : undefined).seq, 6)
})

t.test('the newest transition of a run is known as long as it is remembered', async t => {
  const ring = new Ring('i', 3)
  const push = (revision: number, state: 'running' | 'failed') => {
    const task = taskOf({ id: 'x', runId: 'r', revision, state })
    ring.push({ type: 'task', task }, task, task)
  }
  push(1, 'running')
  t.match(ring.transitionOf('r'), { seq: 1, revision: 1, finished: false })
  t.equal(ring.endOf('x'), undefined)
  push(2, 'failed')
  t.match(ring.transitionOf('r'), { seq: 2, revision: 2, finished: true })
  t.match(ring.endOf('x'), { seq: 2 })
  for (let n = 0; n < 2; n++) ring.push({ type: 'image' }, {})
  t.match(ring.transitionOf('r'), { seq: 2 }, 'evicting an older one changes nothing')
  ring.push({ type: 'image' }, {})
  t.equal(ring.transitionOf('r'), undefined)
  t.equal(ring.endOf('x'), undefined)
})

t.test('of several runs with one id the end is that of the last', async t => {
  const ring = new Ring('i', 8)
  for (const runId of ['r1', 'r2']) {
    const task = taskOf({ id: 'x', runId, state: 'succeeded' })
    ring.push({ type: 'task', task }, task, task)
  }
  t.match(ring.endOf('x'), { seq: 2 })
})
