import t from 'tap'
import { escapeUnprintable, escapeUnprintableDeep, escapeUnprintableLines } from '../src/unprintable.ts'

const dangerous: Array<readonly [first: number, last: number]> = [
  [0x00, 0x1f], [0x7f, 0x9f], [0xad, 0xad], [0x61c, 0x61c], [0x180e, 0x180e], [0x200b, 0x200f], [0x2028, 0x202e], [0x2060, 0x2064],
  [0x2066, 0x206f], [0x3164, 0x3164], [0xd800, 0xdfff], [0xfe00, 0xfe0f], [0xfeff, 0xfeff], [0xfff9, 0xfffb], [0xe0000, 0xe0fff]
]

t.test('every control, format and invisible character is escaped', async t => {
  const left = dangerous.flatMap(([first, last]) => Array.from({ length: last - first + 1 }, (_, index) => first + index))
    .filter(code => !/^a(\\u[0-9a-f]{4}){1,2}b$/.test(escapeUnprintable(`a${String.fromCodePoint(code)}b`)))
  t.strictSame(left.map(code => code.toString(16)), [])
})

t.test('what people read stays as it is', async t => {
  for (const text of ['disk-1_a.qcow2: 45 % of 256 MiB', 'Größe ≠ 10 €, 日本語, العربية, עברית, 😀', "it's \"quoted\" \\ `x`", '']) {
    t.equal(escapeUnprintable(text), text)
    t.equal(escapeUnprintableLines(text), text)
  }
})

t.test('a text that is escaped twice is the text that is escaped once', async t => {
  const once = escapeUnprintable('\u001b]0;title\u0007 \u202egnp.exe \u{e0041}')
  t.equal(once, '\\u001b]0;title\\u0007 \\u202egnp.exe \\udb40\\udc41')
  t.equal(escapeUnprintable(once), once)
})

t.test('one keeps line feeds, the other makes one line', async t => {
  t.equal(escapeUnprintable('a\nb\r\tc'), 'a\\u000ab\\u000d\\u0009c')
  t.equal(escapeUnprintableLines('a\nb\r\tc'), 'a\nb\\u000d\\u0009c')
})

t.test('an escaped JSON document has the same values', async t => {
  const value = { name: '\u001b[2J\u009b31m\u007f\u202e\u2028\ud800 \u{e0041}', '\u200f': ['\\', '\\u202e', '"\u061c"'] }
  for (const indent of [0, 2]) {
    const text = escapeUnprintableLines(JSON.stringify(value, undefined, indent))
    t.match(text, /^[\x20-\x7e\n]*$/)
    t.strictSame(JSON.parse(text), value)
  }
})

t.test('plain data is copied with every string and key escaped', async t => {
  const value = { 'k\u0000': ['\u009b', 1, null, true, { deep: '\u202e' }], undefined }
  t.strictSame(escapeUnprintableDeep(value), { 'k\\u0000': ['\\u009b', 1, null, true, { deep: '\\u202e' }], undefined })
})
