import t from 'tap'
import { AppError } from '../../src/errors.ts'
import { etagOf, namesExactly, namesRevision, namesRun, parseCondition, parseTag, type TagParts } from '../../src/tasks/etag.ts'

const task: TagParts = { instance: 'i1', runId: '0190-aa', revision: 2, tick: 7 }

t.test('a tag is read back as it was written', async t => {
  t.equal(etagOf(task), '"i1.0190-aa.2.7"')
  t.same(parseTag(etagOf(task)), task)
})

t.test('a tag that is not one of ours has no parts', async t => {
  for (const foreign of ['"x"', '""', '"a.b.c.d"', '"a.b.1"', '"a.b.1.2.3"', 'a.b.1.2', 'W/"a.b.1.2"', '"a.b.-1.2"', '"a.b.1e3.2"', `"a.b.${'9'.repeat(16)}.2"`]) {
    t.equal(parseTag(foreign), undefined, foreign)
  }
})

t.test('conditions are *, one tag or a list of them', async t => {
  for (const [value, expected] of [
    [undefined, undefined],
    ['*', '*'],
    [' * ', '*'],
    ['"a"', ['"a"']],
    ['"a", "b"', ['"a"', '"b"']],
    ['"a","b"', ['"a"', '"b"']],
    [', "a" ,, "b",', ['"a"', '"b"']],
    ['"a,b"', ['"a,b"']],
    ['""', ['""']],
    ['"\u00e9"', ['"\u00e9"']]
  ] as const) {
    t.same(parseCondition('If-Match', value), expected, String(value))
    t.same(parseCondition('If-None-Match', value), expected, String(value))
  }
})

t.test('a weak tag never matches strongly, and matches weakly as what it stands for', async t => {
  t.same(parseCondition('If-Match', 'W/"a", "b"'), ['"b"'])
  t.same(parseCondition('If-Match', 'W/"a"'), [])
  t.same(parseCondition('If-None-Match', 'W/"a", "b"'), ['"a"', '"b"'])
})

t.test('a malformed condition is refused with the curl line that would have worked', async t => {
  for (const [value, example] of [
    ['i1.0190-aa.2.7', '"i1.0190-aa.2.7"'],
    ["'i1.0190-aa.2.7'", '"i1.0190-aa.2.7"'],
    ['\\"i1.r.2.7\\"', '"i1.r.2.7"'],
    ['W/i1.r.2.7', '"i1.r.2.7"'],
    ['w/"a"', '"w/a"'],
    ['a, b', '"a", "b"'],
    ['"a", b', '"a", "b"'],
    ['"a" "b"', '"ab"'],
    ['"a', '"a"'],
    ['*, "a"', '"*", "a"'],
    ['', '"<ETag of the task>"'],
    [' , ', '"<ETag of the task>"']
  ] as const) {
    for (const header of ['If-Match', 'If-None-Match'] as const) {
      const line = `-H '${header}: ${example}'`
      t.throws(() => parseCondition(header, value), { code: 'precondition-malformed' }, value)
      try {
        parseCondition(header, value)
      } catch (error) {
        t.ok(error instanceof AppError && error.message.includes(line), `${value}: ${String(error)}`)
      }
      if (!/[*<]/.test(example)) t.ok(parseCondition(header, example), 'the example is well-formed')
    }
  }
})

t.test('a condition of sixteen kilobytes is read in one go, well-formed or not', async t => {
  t.equal(parseCondition('If-Match', Array.from({ length: 4000 }, () => '"a"').join(','))?.length, 4000)
  for (const hostile of [', '.repeat(8000) + 'x', '"a" ' + ' '.repeat(16000) + 'x', '"a"' + ' , '.repeat(5000) + '"']) {
    t.throws(() => parseCondition('If-Match', hostile), { code: 'precondition-malformed' })
  }
})

t.test('how much of a tag counts depends on what is asked', async t => {
  for (const [what, tag, run, revision, exactly] of [
    ['the same', { ...task }, true, true, true],
    ['another tick', { ...task, tick: 8 }, true, true, false],
    ['another revision', { ...task, revision: 3 }, true, false, false],
    ['another run', { ...task, runId: 'r2' }, false, false, false],
    ['another instance', { ...task, instance: 'i2' }, false, false, false]
  ] as const) {
    for (const condition of [[etagOf(tag)], ['"foreign"', etagOf(tag)]]) {
      t.equal(namesRun(condition, task), run, `${what}: run`)
      t.equal(namesRevision(condition, task), revision, `${what}: revision`)
      t.equal(namesExactly(condition, task), exactly, `${what}: exactly`)
    }
  }
  t.ok(namesRun('*', task) && namesRevision('*', task) && namesExactly('*', task))
  t.notOk(namesRun([], task) || namesRevision([], task) || namesExactly([], task))
})
