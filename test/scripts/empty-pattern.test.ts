import { Linter, type Rule } from 'eslint'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { Empty } from '../helpers/empty.ts'

const { emptyPattern }: { emptyPattern: Rule.RuleModule } = await import(fileURLToPath(new URL('../../scripts/lint/empty-pattern.mjs', import.meta.url)))
const linter = new Linter()
const complaints = (code: string): string[] => linter.verify(code, [{ plugins: { tests: { rules: { 'empty-pattern': emptyPattern } } }, rules: { 'tests/empty-pattern': 'error' } }]).map(({ message }) => message.slice(0, 2))

t.test('an assertion with an empty array or object in its pattern is refused, however deep', async t => {
  for (const [code, ...expected] of [
    ['t.match(x, [])', '[]'],
    ['t.match(x, {})', '{}'],
    ['t.match(x, { a: [{ b: [] }], c: {} })', '[]', '{}'],
    ['t.match(x, { a: yes ? [] : 1, ...(yes && { b: {} }) })', '[]', '{}'],
    ['const expected = { items: [] }; t.match(x, expected)', '[]'],
    ['const rest = { items: [] }; f(() => { t.match(x, { a: 1, ...rest }) })', '[]'],
    ['t.has(x, { a: [] })', '[]'],
    ['t.rejects(x, { members: {} })', '{}']
  ] as const) t.strictSame(complaints(code), expected, code)
})

t.test('what can fail is not refused', async t => {
  for (const code of [
    't.match([], { a: 1 })',
    't.strictSame(x, [])',
    't.same(x, {})',
    't.match(x, { a: Empty, b: Object, ...{} })',
    't.match(x, { a: f({}, []) })',
    'const x = x; t.match(y, x)'
  ]) t.strictSame(complaints(code), [], code)
})

t.test('Empty matches an array without elements and nothing else', async t => {
  t.match({ a: [] }, { a: Empty })
  for (const a of [[1], {}, '', null, undefined, [[]]]) t.notMatch({ a }, { a: Empty })
  t.notMatch({}, { a: Empty })
})
