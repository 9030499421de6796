import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'

const root = fileURLToPath(new URL('../..', import.meta.url))
interface Mutant { file: string, name: string, search: string, replace: string, tests: string[], why?: string }
const { mutants }: { mutants: Mutant[] } = await import(join(root, 'scripts/mutants/list.mjs'))

t.test('every mutant of npm run mutate still applies: who changes the code, changes them', async t => {
  const { stdout } = await promisify(execFile)(process.execPath, [join(root, 'scripts/mutate.mjs'), '--check']).catch((error: { stdout: string }) => error)
  t.match(stdout, /^\d+ mutants, 0 do not apply$/m, stdout)
})

t.test('a mutant changes something, has a name of its own, and tests that are there', async t => {
  t.ok(mutants.length >= 120, `${mutants.length} mutants`)
  t.equal(new Set(mutants.map(({ file, name }) => `${file}: ${name}`)).size, mutants.length)
  for (const { name, search, replace, tests } of mutants) {
    t.not(search, replace, name)
    t.ok(tests.length > 0 && tests.every(test => existsSync(join(root, test))), name)
  }
})
