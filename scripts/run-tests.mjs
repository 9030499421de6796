// Runs all test files, or those given, and prints what tap's raw output is: node scripts/run-tests.mjs [FILE | FOLDER]...
// `tap run` sorts them by name, so that a long one may begin when all others have ended, and has no place for an order.
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs'
import { join, relative } from 'node:path'
import t from 'tap'
import { root } from './step.mjs'

/** How long each took in the last whole run here, in milliseconds (scripts/check.mjs). */
const times = join(root, 'node_modules/.cache/test-times.json')
const known = existsSync(times) ? new Map(JSON.parse(readFileSync(times, 'utf8'))) : new Map()
/** What takes longest begins first. Where nothing is known of that, as in CI, these do, and then those with real agents. */
const longest = [
  'ovirt-chain-crash-steps', 'crash-steps', 'ovirt-crash-steps', 'sanlock', 'torture', 'gluster-domain', 'hung-storage', 'backing-formats',
  'copy-hostile', 'ovirt-chain', 'gluster-cluster', 'copy', 'ovirt-copy'
].map(name => `test/integration/${name}.test.ts`)

const rc = readFileSync(join(root, '.taprc'), 'utf8')
const numberIn = name => Number(new RegExp(`^${name}: (\\d+)$`, 'm').exec(rc)[1])

const wanted = process.argv.slice(2)
const files = (wanted.length === 0 ? ['test'] : wanted).flatMap(testsIn).sort((a, b) => rank(a) - rank(b))
t.setTimeout(0)
t.jobs = Number(process.env.TAP_JOBS ?? numberIn('jobs'))
const timeout = numberIn('timeout') * 1000
const env = { ...process.env, NODE_OPTIONS: '--import=./scripts/typescript/register.mjs', TAP_TIMEOUT: String(timeout / 1000) }
if (files.length === 0) throw new Error(`no tests in ${wanted.join(' ')}`)
for (const file of new Set(files)) {
  t.spawn(process.execPath, [join(root, file)], { name: file, cwd: root, env, timeout, buffered: true, stdio: 'inherit', externalID: file })
}

function testsIn (path) {
  const whole = join(root, path)
  if (!existsSync(whole)) throw new Error(`${path} is not there`)
  if (!statSync(whole).isDirectory()) return [relative(root, whole)]
  return readdirSync(whole, { recursive: true }).filter(name => name.endsWith('.test.ts')).sort().map(name => join(relative(root, whole), name))
}

function rank (file) {
  if (known.has(file)) return -known.get(file)
  const place = longest.indexOf(file)
  if (place >= 0) return place
  return longest.length + (file.startsWith('test/integration/') ? 0 : 1)
}
