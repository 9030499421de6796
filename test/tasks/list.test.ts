import t from 'tap'
import { listTasks, type ListQuery } from '../../src/tasks/list.ts'
import { Run } from '../../src/tasks/run.ts'
import { copyOf, deletionOf } from '../helpers/http-agent.ts'

const here = { instance: 'here', lastEventId: 'here-9' }
const everything: ListQuery = { states: undefined, kinds: undefined, idPrefix: undefined, limit: 1000, cursor: undefined }

function runsOf (count: number, createdAt: (n: number) => number = n => n): Run[] {
  return Array.from({ length: count }, (_, n) => new Run({
    id: `t${n}`, spec: n % 2 === 0 ? copyOf('a', 'b') : deletionOf('a'), specDigest: '', cancelable: true, instance: 'here', replaces: undefined, createdAt: createdAt(n)
  }))
}

const ids = ({ items }: { items: ReadonlyArray<{ id: string }> }) => items.map(({ id }) => id)

t.test('without a filter everything is listed, oldest first, and nothing follows', async t => {
  const page = listTasks(runsOf(3), here, everything)
  t.same(ids(page), ['t0', 't1', 't2'])
  t.match(page, { instance: 'here', lastEventId: 'here-9' })
  t.notOk('next' in page)
  t.same(listTasks([], here, everything), { instance: 'here', lastEventId: 'here-9', items: [] })
})

t.test('filters narrow, alone and together, and a page is filled with what passes', async t => {
  const runs = runsOf(6)
  runs[1]?.move('running', 1)
  runs[2]?.move('running', 1)
  runs[2]?.move('succeeded', 1)
  t.same(ids(listTasks(runs, here, { ...everything, states: ['running', 'succeeded'] })), ['t1', 't2'])
  t.same(ids(listTasks(runs, here, { ...everything, kinds: ['storage.deleteImage'] })), ['t1', 't3', 't5'])
  t.same(ids(listTasks(runs, here, { ...everything, idPrefix: 't4' })), ['t4'])
  t.same(ids(listTasks(runs, here, { ...everything, states: ['pending'], kinds: ['storage.deleteImage'], limit: 1 })), ['t3'])
  t.same(ids(listTasks(runs, here, { ...everything, states: ['rejected'] })), [])
})

t.test('pages follow each other without gap or repetition, also within one millisecond', async t => {
  for (const createdAt of [(n: number) => n, () => 7, (n: number) => Math.floor(n / 3)]) {
    const runs = runsOf(20, createdAt)
    for (const limit of [1, 3, 7, 19, 20, 21]) {
      const seen: string[] = []
      let cursor: string | undefined
      let pages = 0
      do {
        const page = listTasks(runs, here, { ...everything, limit, cursor })
        seen.push(...ids(page))
        cursor = page.next
        pages++
      } while (cursor !== undefined)
      t.same(seen, runs.map(({ id }) => id))
      t.equal(pages, Math.ceil(20 / limit), 'no page is empty')
    }
  }
})

t.test('what is gone or new in between does not disturb the pages', async t => {
  const runs = runsOf(6)
  const first = listTasks(runs, here, { ...everything, limit: 2 })
  const now = [...runs.slice(2), ...runsOf(1, () => 100)]
  const second = listTasks(now, here, { ...everything, limit: 100, cursor: first.next })
  t.same(ids(second), ['t2', 't3', 't4', 't5', 't0'])
})

t.test('every page repeats the event id of the first', async t => {
  const runs = runsOf(5)
  const first = listTasks(runs, here, { ...everything, limit: 2 })
  const second = listTasks(runs, { instance: 'here', lastEventId: 'here-12' }, { ...everything, limit: 2, cursor: first.next })
  const third = listTasks(runs, { instance: 'here', lastEventId: 'here-15' }, { ...everything, limit: 2, cursor: second.next })
  t.same([first, second, third].map(({ lastEventId }) => lastEventId), ['here-9', 'here-9', 'here-9'])
})

t.test('the cursor of another instance is gone, and says so', async t => {
  const { next } = listTasks(runsOf(5), here, { ...everything, limit: 2 })
  t.throws(() => listTasks(runsOf(5), { instance: 'there', lastEventId: 'there-0' }, { ...everything, cursor: next }), { code: 'cursor-gone', members: { instance: 'there' } })
})

t.test('what was never a cursor is refused', async t => {
  const pack = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
  for (const cursor of ['', 'x', '%', pack(null), pack({}), pack([]), pack(['here', 1, 'r']), pack(['here', '1', 'r', 'e']), pack(['here', 1.5, 'r', 'e']), pack(['here', 1, 'r', 'e', 'x']), pack({ __proto__: null })]) {
    t.throws(() => listTasks([], here, { ...everything, cursor }), { code: 'bad-request' }, cursor)
  }
})

t.test('no page looks at more runs than up to the first it leaves out', async t => {
  const runs = runsOf(100)
  let seen = 0
  function * counted () {
    for (const run of runs) {
      seen++
      yield run
    }
  }
  listTasks(counted(), here, { ...everything, limit: 10 })
  t.equal(seen, 11)
})
