import { readFileSync } from 'node:fs'
import t from 'tap'

const top = new URL('../../', import.meta.url)
const text = readFileSync(new URL('SECURITY.md', top), 'utf8').replaceAll(/\s+/g, ' ')

/** What SECURITY.md names: a file, then the parts of titles that are named until the next one. */
const named = text.split(/(?=`test\/)/).slice(1).map(piece => {
  // titles stand right behind the file, with commas between
  const [, file = piece, list = ''] = /^`(test\/[\w/.-]+\.test\.ts)`(?:: ((?:"[^"]+"(?:, )?)+))?/.exec(piece) ?? []
  return { file, titles: [...list.matchAll(/"([^"]+)"/g)].map(([, title = '']) => title) }
})

/** Titles of tests, as they stand in a file: what is computed in them is left out. */
function titlesIn (file: string): string[] {
  const source = readFileSync(new URL(file, top), 'utf8')
  const titles = source.matchAll(/\bt\.test\(\s*(?:'((?:[^'\\]|\\.)*)'|`((?:[^`\\]|\\.)*)`)/g)
  return [...titles].map(([, plain, template]) => (plain ?? template ?? '').replaceAll('\\\'', '\''))
}

t.test('every test that SECURITY.md names is there', async t => {
  t.ok(named.length >= 30, `${named.length} places`)
  for (const { file, titles } of named) {
    t.ok(titles.length > 0, `${file} is named with a title`)
    for (const title of titles) t.ok(titlesIn(file).some(there => there.includes(title)), `${file}: ${title}`)
  }
})

t.test('every promise names a test', async t => {
  const lines = readFileSync(new URL('SECURITY.md', top), 'utf8')
  // no promises: warnings, and what is not promised
  const without = [
    /reveal the version/, /Cookies do not distinguish/, /sanlock daemon opens/, /must authenticate/, /can be moved into/,
    /^\* `(manual|own|any)` /
  ]
  const isExempt = (item: string) => without.some(pattern => pattern.test(item.replaceAll(/\s+/g, ' ')))
  const items = lines.split(/\n(?=\* |\n|#)/).map(item => item.trim()).filter(item => item.startsWith('* '))
  t.ok(items.length > 20)
  t.strictSame(items.filter(item => !item.includes('`test/') && !isExempt(item)).map(item => item.slice(0, 60)), [])
})
