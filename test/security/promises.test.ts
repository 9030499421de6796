import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const top = new URL('../../', import.meta.url)

t.test('every test that SECURITY.md names is there', async t => {
  const named = [...new Set(readFileSync(new URL('SECURITY.md', top), 'utf8').match(/test\/[\w/.-]+\.test\.ts/g) ?? [])]
  t.ok(named.length >= 10)
  t.strictSame(named.filter(name => !existsSync(fileURLToPath(new URL(name, top)))), [])
})
