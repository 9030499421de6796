// npm run mutate: breaks the source in one place at a time, and runs the tests that must notice. The last line is the score.
//   npm run mutate -- flusher durable   only mutants whose file or name has one of these in it
//   npm run mutate -- --check           only looks whether every mutant still applies
//
// Why not Stryker (9.6 was tried, with its tap-runner): it puts every mutant into the source behind a switch in the process
// of the test. The copy worker, the domain process and what strace runs have an environment of their own, in which no mutant
// would be on: all of the durable core would survive. It made 170 mutants of two files with 150 lines, and its first run,
// of a test with processes, timed out. Each mutant here is a mistake that somebody could make, and most are no single token.
import { spawn } from 'node:child_process'
import { chmodSync, cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buildUnlessFresh, bundleSources } from './build.mjs'
import { mutants } from './mutants/list.mjs'
import { root } from './step.mjs'

const parallel = Number(process.env.MUTATE_PARALLEL ?? 2)
/** For all tests of a mutant. One that makes them wait for ever is noticed, too. */
const limitMs = Number(process.env.MUTATE_LIMIT_MS ?? 180_000)
/** So many of a hundred must be noticed. */
const wanted = 95

const print = line => process.stdout.write(`${line}\n`)
const args = process.argv.slice(2)
const words = args.filter(arg => !arg.startsWith('--'))
const chosen = mutants.filter(({ file, name }) => words.length === 0 || words.some(word => `${file} ${name}`.includes(word)))

const stale = mutants.flatMap(mutant => staleness(mutant) ?? [])
for (const line of stale) print(line)
if (stale.length > 0 || args.includes('--check')) {
  print(`${mutants.length} mutants, ${stale.length} do not apply`)
  process.exit(stale.length > 0 ? 1 : 0)
}

buildUnlessFresh()
const results = []
const queue = [...chosen]
const folders = Array.from({ length: parallel }, makeTree)
try {
  await assertSound()
  await Promise.all(folders.map(work))
} finally {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
}
const survivors = results.filter(({ noticed }) => !noticed)
for (const { mutant: { file, name, why } } of survivors) print(`survived: ${file}: ${name}${why === undefined ? '' : ` (${why})`}`)
const score = 100 * (1 - survivors.length / results.length)
print(`${results.length} mutants, ${survivors.length} survived: ${score.toFixed(1)} % were noticed`)
process.exit(score >= wanted && survivors.every(({ mutant: { why } }) => why !== undefined) ? 0 : 1)

/** A copy of the project that can be broken. Packages are shared. */
function makeTree () {
  const folder = mkdtempSync(join(tmpdir(), 'vdsm-tasks-mutate-'))
  // some tests start the agent as another user
  chmodSync(folder, 0o755)
  for (const name of ['src', 'test', 'scripts', 'docs', 'openapi', 'service', 'README.md', 'CHANGELOG.md', 'SECURITY.md', 'package.json', 'tsconfig.json']) {
    cpSync(join(root, name), join(folder, name), { recursive: true })
  }
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'))
  cpSync(join(root, 'dist'), join(folder, 'dist'), { recursive: true })
  return folder
}

/** Whether a test starts the agent as it is built: then the mutant must be in that, too. */
function startsAgent (test) {
  return /helpers\/(agent|built-agent|command-line|command-session|serve)\.ts'|dist\//.test(readFileSync(join(root, test), 'utf8'))
}

/** A test that fails without any mutant would notice them all. */
async function assertSound () {
  const tests = [...new Set(chosen.flatMap(({ tests }) => tests))]
  const failing = []
  await Promise.all(folders.map(async folder => {
    for (let test = tests.shift(); test !== undefined; test = tests.shift()) if (!await passes(folder, test, limitMs)) failing.push(test)
  }))
  if (failing.length > 0) throw new Error(`without any mutant, these tests fail: ${failing.join(' ')}`)
}

async function work (folder) {
  for (let mutant = queue.shift(); mutant !== undefined; mutant = queue.shift()) {
    const { file, name, search, replace, tests } = mutant
    const path = join(folder, file)
    const text = readFileSync(path, 'utf8')
    const begin = performance.now()
    writeFileSync(path, text.split(search).join(replace))
    const isBuilt = tests.some(startsAgent)
    if (isBuilt) bundleSources(join(folder, 'src'), join(folder, 'dist'))
    let noticed = false
    for (const test of tests) {
      const leftMs = limitMs - (performance.now() - begin)
      noticed = leftMs <= 0 || !await passes(folder, test, leftMs)
      if (noticed) break
    }
    writeFileSync(path, text)
    if (isBuilt) bundleSources(join(folder, 'src'), join(folder, 'dist'))
    results.push({ mutant, noticed })
    print(`${noticed ? 'noticed ' : 'SURVIVED'} ${file}: ${name} (${((performance.now() - begin) / 1000).toFixed(1)} s)`)
  }
}

/** Runs one test file up to its first failure. A test that hangs does not pass. */
async function passes (folder, test, timeoutMs) {
  const env = { ...process.env, TAP_BAIL: '1', TAP_TIMEOUT: String(Math.ceil(timeoutMs / 1000)) }
  const child = spawn(process.execPath, ['--import=./scripts/typescript/register.mjs', test], { cwd: folder, detached: true, stdio: 'ignore', env })
  const endGroup = () => {
    try {
      process.kill(-child.pid, 'SIGKILL')
    } catch (error) {
      if (error.code !== 'ESRCH') throw error // Already empty.
    }
  }
  const timer = setTimeout(endGroup, timeoutMs)
  const status = await new Promise((resolve, reject) => child.once('error', reject).once('exit', resolve))
  clearTimeout(timer)
  endGroup()
  return status === 0
}

/** Why a mutant cannot be made, or undefined. */
function staleness ({ file, name, search }) {
  let text
  try {
    text = readFileSync(join(root, file), 'utf8')
  } catch (error) {
    return `${file}: ${name}: ${error.message}`
  }
  const times = text.split(search).length - 1
  return times === 1 ? undefined : `${file}: ${name}: its text is there ${times} times: ${search}`
}
