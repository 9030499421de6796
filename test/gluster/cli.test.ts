import { chmod, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { AppError } from '../../src/errors.ts'
import { Gluster, type AskOptions } from '../../src/gluster/cli.ts'
import { findVolume, listVolumes, start } from '../../src/gluster/commands.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { outputOf } from './fixture.ts'

const folder = await temporaryDirectory(t)
let stands = 0

/** A stand-in for the gluster command: a shell script that may count its calls in `$0.calls`. */
async function standIn (script: string): Promise<string> {
  const file = join(folder, `gluster${++stands}`)
  await writeFile(file, `#!/bin/sh\necho x >> "$0.calls"\ncalls=$(grep -c x "$0.calls")\n${script}\n`)
  await chmod(file, 0o755)
  return file
}

async function printing (text: string, exitCode = 0): Promise<string> {
  const file = join(folder, `output${stands}`)
  await writeFile(file, text)
  return standIn(`cat '${file}'; exit ${exitCode}`)
}

async function failure (work: Promise<unknown>): Promise<AppError> {
  try {
    await work
  } catch (error) {
    if (error instanceof AppError) return error
    throw error
  }
  throw new Error('it did not fail')
}

function ask (gluster: Gluster, options: AskOptions = {}): Promise<string> {
  return gluster.ask(['volume', 'status', 'v0'], () => 'read', { volume: 'v0', ...options })
}

const busy = outputOf('concurrent-b')
const done = outputOf('vol-set-user')

t.test('gluster is not installed', async t => {
  t.match(await failure(ask(new Gluster({ command: join(folder, 'nothing') }))), { code: 'gluster-unavailable', changed: false, message: /not installed/ })
  t.match(await failure(ask(new Gluster({ env: { PATH: folder } }))), { code: 'gluster-unavailable', changed: false })
})

t.test('glusterd is down', async t => {
  const gluster = new Gluster({ command: await printing(outputOf('glusterd-down'), 1) })
  t.match(await failure(ask(gluster)), { code: 'gluster-unavailable', changed: false, message: /Connection failed/ })
})

t.test('a command that hangs for ever is ended at its deadline', async t => {
  const gluster = new Gluster({ command: await standIn('echo $$ > "$0.pid"; exec sleep 1000'), readTimeoutMs: 300, changeTimeoutMs: 400 })
  t.match(await failure(ask(gluster)), { code: 'gluster-unresponsive', changed: false })
  t.match(await failure(ask(gluster, { changes: true })), { code: 'gluster-unresponsive', changed: true, message: /may still do it/ })
  t.match(gluster.counters, { calls: 2, timeouts: 2, failures: 2 })
})

t.test('the exit status says nothing', async t => {
  t.equal(await ask(new Gluster({ command: await printing(done, 1) })), 'read')
  t.match(await failure(ask(new Gluster({ command: await printing(outputOf('rebal-start-nosuchvol'), 0) }))), { code: 'volume-not-found', message: /Volume nope does not exist/ })
})

t.test('output that is not as expected is a problem with the excerpt', async t => {
  for (const [output, excerpt] of [
    ['Internal error: something\n', /Internal error/],
    [outputOf('rebal-status-done').slice(0, 400), /cliOutput/],
    ['<cliOutput><opRet>zero</opRet></cliOutput>', /zero/],
    ['', /^$/]
  ] as const) {
    const gluster = new Gluster({ command: await printing(output) })
    const error = await failure(ask(gluster, { changes: true }))
    t.match(error, { code: 'gluster-unexpected', changed: true, members: { excerpt } }, output.slice(0, 20))
  }
  const syntax = new Gluster({ command: await standIn('echo "unrecognized word: begin" >&2; exit 1') })
  t.match(await failure(ask(syntax)), { code: 'gluster-unexpected', message: /unrecognized word: begin/ })
  const wrong = new Gluster({ command: await printing(outputOf('many-info').replaceAll('volInfo', 'volInformation')) })
  t.match(await failure(listVolumes(wrong)), { code: 'gluster-unexpected', message: /volInfo/ })
})

t.test('while Gluster is busy the command is repeated', async t => {
  const [busyFile, doneFile] = [join(folder, 'busy'), join(folder, 'done')]
  await Promise.all([writeFile(busyFile, busy), writeFile(doneFile, done)])
  const gluster = new Gluster({ command: await standIn(`[ $calls -lt 3 ] && exec cat '${busyFile}'; exec cat '${doneFile}'`) })
  t.equal(await ask(gluster), 'read')
  t.match(gluster.counters, { calls: 3, retries: 2 })
})

t.test('but not for ever, and not after a cancel', async t => {
  const gluster = new Gluster({ command: await printing(busy), patienceMs: 500 })
  t.match(await failure(ask(gluster)), { code: 'gluster-busy', message: /Another transaction is in progress for v0/ })
  const cancel = new AbortController()
  const patient = new Gluster({ command: await printing(busy) })
  const asked = ask(patient, { signal: cancel.signal })
  setTimeout(() => { cancel.abort(new Error('canceled')) }, 100)
  await t.rejects(asked, /canceled/)
})

t.test('one command at a time per volume; what needs no lock does not wait', async t => {
  const overlaps = join(folder, 'overlaps')
  const output = join(folder, 'info')
  await writeFile(output, outputOf('many-info'))
  const command = await standIn(`[ "$4" = info ] && exec cat '${output}'; mkdir "$0.running" || echo overlap >> '${overlaps}'; sleep 0.1; rmdir "$0.running"; exec cat '${output}'`)
  const gluster = new Gluster({ command })
  await Promise.all([1, 2, 3, 4].map(() => ask(gluster)))
  await t.rejects(readFile(overlaps), { code: 'ENOENT' })
  const slow = ask(gluster)
  t.equal((await findVolume(gluster, 'v0')).volume, 'a1')
  await slow
})

t.test('waiting for a turn has its limit, too', async t => {
  const gluster = new Gluster({ command: await standIn('exec sleep 1000'), readTimeoutMs: 1500, patienceMs: 300 })
  const first = failure(ask(gluster))
  t.match(await failure(ask(gluster)), { code: 'gluster-busy', message: /was not run/ })
  t.equal((await first).code, 'gluster-unresponsive')
})

t.test('what an interrupted start has done is not known', async t => {
  const gluster = new Gluster({ command: await standIn('kill -9 $$') })
  const error = await failure(start(gluster, { type: 'rebalance', volume: 'v0', bricks: [] }, ['start'], new AbortController().signal))
  t.match(error, { changed: true })
})

t.test('several questions are answered in one run; after a refusal the rest is asked in another one', async t => {
  const fixtures = fileURLToPath(new URL('../fixtures/gluster/', import.meta.url))
  const program = async (name: string, script: string): Promise<Gluster> => {
    const command = join(folder, name)
    await writeFile(command, `#!/bin/sh\ncd '${fixtures}'\necho "$*" >> '${folder}/${name}.calls'\n${script}`, { mode: 0o755 })
    return new Gluster({ command, patienceMs: 0, readTimeoutMs: 500 })
  }
  const runs = async (name: string): Promise<number> => (await readFile(join(folder, `${name}.calls`), 'utf8')).trim().split('\n').length
  const questions = ['pool list', 'volume gone', 'volume busy', 'volume info', 'volume tasks'].map(line => ({ args: line.split(' '), read: () => line }))
  const answers = `case "$line" in
    *gone) cat rebal-status-stopped.xml; exit 1;;
    *busy) cat concurrent-b.xml; exit 1;;
    *) cat pool-list.xml;;
  esac`

  const real = await program('real', `while read -r line; do ${answers}; done`)
  t.match(await real.askAll(questions), [{ value: 'pool list' }, { error: { code: 'operation-not-running' } }, { error: { code: 'gluster-busy' } }, { error: { code: 'gluster-busy' } }, { error: { code: 'gluster-busy' } }])
  t.equal(await runs('real'), 2, 'what was not asked is busy, and for a later look')
  t.match(await real.askAll(questions.filter(({ args }) => args[1] !== 'busy')), [{ value: 'pool list' }, { error: { code: 'operation-not-running' } }, { value: 'volume info' }, { value: 'volume tasks' }])

  const mute = await program('mute', `line=$(echo "$*" | sed 's/.*--xml *//'); if [ -z "$line" ]; then exit; fi; ${answers}`)
  t.match(await mute.askAll(questions), [{ value: 'pool list' }, { error: { code: 'operation-not-running' } }, { error: { code: 'gluster-busy' } }, { value: 'volume info' }, { value: 'volume tasks' }], 'one that takes no commands from standard input')

  const hung = await program('hung', 'exec sleep 60')
  t.match(await hung.askAll(questions.slice(0, 2)), [{ error: { code: 'gluster-unresponsive' } }, { error: { code: 'gluster-unresponsive' } }])
  t.equal(await runs('hung'), 1, 'one that hangs is not asked for each of them')
  const down = await program('down', 'cat glusterd-down.xml; exit 1')
  t.match(await down.askAll(questions.slice(0, 2)), [{ error: { code: 'gluster-unavailable' } }, { error: { code: 'gluster-unavailable' } }])

  const single = await program('one', `line=$(echo "$*" | sed 's/.*--xml *//'); ${answers}`)
  t.strictSame(await single.askAll(questions.slice(0, 1)), [{ value: 'pool list' }])
  const long = [{ args: ['volume', 'x'.repeat(2000)], read: () => 'long' }, ...questions.slice(0, 1)]
  t.match(await single.askAll(long), [{ value: 'long' }, { value: 'pool list' }])
})
