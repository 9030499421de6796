// What `npm test` runs after the setup: build, types, lint and import rules, then all tests, or those given: npm test -- test/tasks
// All of them report, also when an earlier one failed. The last line counts tap's assertions, for CI to see that there were any.
import { spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { buildUnlessFresh } from './build.mjs'
import { root } from './step.mjs'
import { TapReport } from './tap-report.mjs'

/** Bounds the whole run: tap waits for a test's output to close, and a process that a test left behind may hold it for ever. */
const limitMinutes = 45

const bin = name => join(root, 'node_modules/.bin', name)
const cache = name => join(root, 'node_modules/.cache', name)
const print = line => process.stdout.write(`${line}\n`)
const failed = []

await step('build', async () => buildUnlessFresh())
const args = process.argv.slice(2)
// What does not depend on the Node that runs it is checked once (scripts/test-nodes.mjs).
if (args[0] === '--tests') {
  args.shift()
} else {
  await Promise.all([
    // Their caches make a second run a matter of a second.
    step('types', () => run(bin('tsc'), '--noEmit', '--incremental', '--tsBuildInfoFile', cache('tsc'))),
    step('lint', () => run(bin('eslint'), '--cache', '--cache-strategy', 'content', '--cache-location', cache('eslint'), '.')),
    step('imports', () => run(join(root, 'scripts/check-imports.mjs'))),
    step('compatibility', () => run(join(root, 'scripts/check-compat.mjs')))
  ])
}

await step('types off', () => run(join(root, 'scripts/typescript/all.mjs')))
const report = new TapReport(print)
await step('tests', () => runTests(report, args))

if (args.length === 0) writeFileSync(cache('test-times.json'), JSON.stringify(report.times.map(({ title, ms }) => [title, ms])))
const slowest = report.times.toSorted((a, b) => b.ms - a.ms).slice(0, 10)
if (slowest.length > 1) print(`the slowest files:\n${slowest.map(({ title, ms }) => `  ${(ms / 1000).toFixed(1)} s ${title}`).join('\n')}`)
const { pass = 0, fail = 0, skip = 0, todo = 0 } = report.counts ?? {}
if (skip + todo > 0) print(`${skip} skipped, ${todo} todo`)
if (failed.length > 0) print(`failed: ${failed.join(', ')}`)
print(`${pass} passed, ${fail} failed`)
// Not by itself: a process that a test left behind may still hold a pipe of ours.
process.exit(failed.length > 0 ? 1 : 0)

/** Does one step and says how it went; a failure is remembered, so that the next steps still report. */
async function step (name, task) {
  const begin = performance.now()
  let trouble = ''
  try {
    await task()
  } catch (err) {
    failed.push(name)
    trouble = ` FAILED: ${err.message}`
  }
  print(`${name}:${trouble || ' ok'} (${((performance.now() - begin) / 1000).toFixed(1)} s)`)
}

/** Runs a program of ours; its output appears in one piece, because steps run side by side. */
async function run (program, ...args) {
  const child = spawn(process.execPath, [program, ...args], { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', chunk => { output += chunk })
  const status = await new Promise((resolve, reject) => child.once('error', reject).once('close', resolve))
  process.stdout.write(output)
  if (status !== 0) throw new Error(`exit status ${status}`)
}

/**
 * Runs tap in a process group of its own, which dies with the run, whatever a test left in it. Its output comes through pipes of
 * ours: what a test leaves behind then cannot hold the terminal's or CI's.
 */
async function runTests (report, args) {
  // options are for tap itself
  const program = args.some(arg => arg.startsWith('-')) ? [bin('tap'), 'run', '--reporter=tap'] : [join(root, 'scripts/run-tests.mjs')]
  const tap = spawn(process.execPath, [...program, ...args], { cwd: root, detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
  const endGroup = () => {
    try {
      process.kill(-tap.pid, 'SIGKILL')
    } catch (err) {
      if (err.code !== 'ESRCH') throw err // Already empty.
    }
  }
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.once(signal, () => {
      endGroup()
      process.exit(1)
    })
  }
  tap.stdout.setEncoding('utf8').on('data', chunk => report.write(chunk))
  tap.stderr.pipe(process.stderr)
  let late = false
  const timer = setTimeout(() => {
    late = true
    endGroup()
  }, limitMinutes * 60_000)
  const status = await new Promise((resolve, reject) => {
    tap.once('error', reject)
    // Not 'close' alone: that waits for pipes, which a process outside the group may hold. What tap itself wrote is there within moments.
    tap.once('exit', status => setTimeout(resolve, 1000, status))
    tap.once('close', resolve)
  })
  clearTimeout(timer)
  endGroup()
  if (late) throw new Error(`not done within ${limitMinutes} minutes, killed in ${report.currentFile}: it hangs, or it left a process behind that holds its output`)
  if (report.counts === undefined) throw new Error(`tap ended without its closing line (exit status ${status})`)
  if (report.counts.pass === 0 && report.counts.fail === 0) throw new Error('no test was executed')
  if (status !== 0 || report.counts.fail > 0) throw new Error(`see FAIL above (exit status ${status})`)
}
