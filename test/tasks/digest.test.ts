import { createHash } from 'node:crypto'
import fc from 'fast-check'
import t from 'tap'
import { digest } from '../../src/tasks/digest.ts'

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')

t.test('the vectors of RFC 8785 come out as the RFC prints them', async t => {
  // 3.2.2 and 3.2.3: number forms, escapes, and the order of keys by UTF-16 code units
  t.equal(
    digest(JSON.parse('{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],"string":"\\u20ac$\\u000F\\u000aA\'\\u0042\\u0022\\u005c\\\\\\"\\/","literals":[null,true,false]}')),
    sha256('{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}')
  )
  t.equal(
    digest(JSON.parse('{"\\u20ac":"Euro Sign","\\r":"Carriage Return","\\ufb33":"Hebrew Letter Dalet With Dagesh","1":"One","\\ud83d\\ude00":"Emoji: Grinning Face","\\u0080":"Control","\\u00f6":"Latin Small Letter O With Diaeresis"}')),
    sha256('{"\\r":"Carriage Return","1":"One","\u0080":"Control","ö":"Latin Small Letter O With Diaeresis","€":"Euro Sign","😀":"Emoji: Grinning Face","\ufb33":"Hebrew Letter Dalet With Dagesh"}')
  )
  // Appendix B: numbers at the edges
  for (const [number, text] of [[0, '0'], [-0, '0'], [5e-324, '5e-324'], [Number.MAX_SAFE_INTEGER, '9007199254740991'], [1e21, '1e+21'], [9.999999999999997e22, '9.999999999999997e+22'], [333333333.3333332, '333333333.3333332']] as const) {
    t.equal(digest(number), sha256(text), text)
  }
})

t.test('the order of keys does not matter at any depth, the order of lists does', async t => {
  t.equal(digest({ a: 1, b: { c: [1, 2], d: 'x' } }), digest({ b: { d: 'x', c: [1, 2] }, a: 1 }))
  t.not(digest({ a: [1, 2] }), digest({ a: [2, 1] }))
})

t.test('two JSON values have the same digest exactly when they say the same', async () => {
  const shuffled = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(shuffled)
    if (typeof value !== 'object' || value === null) return value
    return Object.fromEntries(Object.entries(value).reverse().map(([key, member]) => [key, shuffled(member)]))
  }
  // JSON knows no -0 and, in UTF-8, no lone surrogates
  const json = fc.jsonValue({ noUnicodeString: false, maxDepth: 4 }).map(value => JSON.parse(JSON.stringify(value)) as unknown)
    .filter(value => !/\\ud[89a-f]/i.test(JSON.stringify(value)))
  fc.assert(fc.property(json, value => digest(shuffled(value)) === digest(value)), { numRuns: 300 })
  fc.assert(fc.property(json, json, (one, other) => {
    const same = JSON.stringify(sorted(one)) === JSON.stringify(sorted(other))
    return (digest(one) === digest(other)) === same
  }), { numRuns: 300 })
})

function sorted (value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => a < b ? -1 : 1).map(([key, member]) => [key, sorted(member)]))
}
