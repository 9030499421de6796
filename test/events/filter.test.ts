import t from 'tap'
import { compile, type Wanted } from '../../src/events/filter.ts'
import type { Subject } from '../../src/events/ring.ts'

const task = { id: 'nightly-1', kind: 'storage.copyImage', runId: 'r' }
const subjects: Record<string, Subject> = {
  task: { type: 'task', task },
  progress: { type: 'progress', task },
  forgotten: { type: 'forgotten', task },
  other: { type: 'task', task: { id: 'x', kind: 'storage.deleteImage', runId: 's' } },
  image: { type: 'image' },
  operation: { type: 'operation' },
  numbers: { type: 'operationProgress' }
}

const table: readonly [Wanted, string][] = [
  [{}, 'task progress forgotten other image operation numbers'],
  [{ types: ['task'] }, 'task other'],
  [{ types: ['progress', 'image'] }, 'progress image'],
  [{ types: [] }, ''],
  [{ kinds: ['storage.copyImage'] }, 'task progress forgotten image operation numbers'],
  [{ kinds: ['storage.deleteImage'], types: ['task'] }, 'other'],
  [{ idPrefix: 'nightly-' }, 'task progress forgotten image operation numbers'],
  [{ idPrefix: '' }, 'task progress forgotten other image operation numbers'],
  [{ idPrefix: 'nightly-', kinds: ['storage.deleteImage'], types: ['task'] }, ''],
  [{ only: { id: 'x', runId: 's', until: 0 } }, 'other'],
  [{ only: { id: 'x', runId: 't', until: 0 } }, '']
]

t.test('a filter lets through what it says, and narrows only what is about tasks', async t => {
  for (const [wanted, expected] of table) {
    const { passes } = compile(wanted)
    t.equal(Object.keys(subjects).filter(name => { const subject = subjects[name]; return subject !== undefined && passes(subject) }).join(' '), expected, JSON.stringify(wanted))
  }
})

t.test('one task: what happened before counts whichever run it was, what comes only of its own', async t => {
  const { passes } = compile({ only: { id: 'x', runId: 'new', until: 5 } })
  const of = (runId: string, seq: number) => passes({ type: 'task', task: { id: 'x', kind: 'k', runId }, seq })
  t.same([of('old', 5), of('old', 6), of('new', 5), of('new', 6)], [true, false, true, true])
})

t.test('equal wishes have equal keys, others have others', async t => {
  t.equal(compile({ types: ['task', 'image'] }).key, compile({ types: ['image', 'task', 'image'] }).key)
  const keys = new Set(table.map(([wanted]) => compile(wanted).key))
  t.equal(keys.size, table.length)
})
