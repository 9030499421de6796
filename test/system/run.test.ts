import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, writeFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { CommandError, run, runOk } from '../../src/system/run.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { isAlive, untilGone } from '../helpers/processes.ts'

const directory = await temporaryDirectory(t)

t.test('exit status, output and the end of standard error come back as data', async t => {
  const result = await run(['sh', '-c', 'echo out; echo err >&2; exit 3'])
  t.match(result, { exitCode: 3, stdout: 'out\n', stderr: 'err\n' })
  t.notOk('signal' in result)
  const long = await run(['sh', '-c', 'head -c 9000 /dev/zero | tr "\\0" x >&2; echo end >&2'])
  t.equal(long.stderr.length, 4000)
  t.match(long.stderr, /xend\n$/)
})

t.test('a program that is not there is named, whether or not its error looks like ours', async t => {
  await t.rejects(run(['vdsm-tasks-no-such-program', 'x']), { name: 'CommandError', notFound: true, message: /vdsm-tasks-no-such-program is not installed/ })
  t.match(await run(['sh', '-c', 'exit 127']), { exitCode: 127 }, 'a program may end with 127 itself')
})

t.test('a program ended by a signal has no exit status', async t => {
  const result = await run(['sh', '-c', 'kill -TERM $$'])
  t.equal(result.signal, 'SIGTERM')
  t.notOk('exitCode' in result)
  await t.rejects(runOk(['sh', '-c', 'kill -TERM $$']), { name: 'CommandError', signal: 'SIGTERM', message: /was ended by SIGTERM/ })
})

t.test('runOk accepts status 0 and those it is told', async t => {
  t.match(await runOk(['sh', '-c', 'exit 0']), { exitCode: 0 })
  t.match(await runOk(['sh', '-c', 'exit 3'], { accept: [3] }), { exitCode: 3 })
  await t.rejects(runOk(['sh', '-c', 'echo first >&2; echo last words >&2; exit 2'], { accept: [3] }), { exitCode: 2, message: 'sh ended with status 2: last words' })
})

t.test('no shell and no option of setpriv looks at the arguments', async t => {
  t.equal((await run(['printf', '%s|', '$HOME', '*', '--version', "it's", ''])).stdout, "$HOME|*|--version|it's||")
  t.equal((await run(['sh', '-c', 'echo "$0"', '--help'])).stdout, '--help\n')
})

t.test('only what is given is inherited: descriptors from 3 on, and a bare environment', async t => {
  const paths = ['a', 'b', 'c', 'not-given'].map(name => join(directory, name))
  for (const path of paths) writeFileSync(path, path)
  const fds = paths.map(path => openSync(path, 'r'))
  t.teardown(() => { for (const fd of fds) closeSync(fd) })
  const { stdout } = await run(['sh', '-c', 'cat <&3; echo; cat <&4; echo; cat <&5; echo; readlink /proc/$$/fd/*'], { fds: fds.slice(0, 3) })
  const [first, second, third, ...open] = stdout.trim().split('\n')
  t.same([first, second, third], paths.slice(0, 3))
  t.same(open.filter(path => path.startsWith(directory)), paths.slice(0, 3), 'and no other')

  process.env['VDSM_TASKS_SECRET'] = 'x'
  t.teardown(() => { delete process.env['VDSM_TASKS_SECRET'] })
  const { stdout: environment } = await run(['env'], { env: { EXTRA: 'yes' } })
  const names = environment.split('\n').flatMap(line => /^(\w+)=/.exec(line)?.[1] ?? [])
  // tap puts its own into every program that a test starts
  t.same(names.filter(name => !/^(_TAPJS_|NODE_OPTIONS$)/.test(name)).sort(), ['EXTRA', 'LC_ALL', 'PATH'])
})

t.test('ten descriptors and more go through', async t => {
  const fds = Array.from({ length: 20 }, () => openSync('/dev/null', 'r'))
  t.teardown(() => { for (const fd of fds) closeSync(fd) })
  t.match(await run(['sh', '-c', 'readlink /proc/$$/fd/22'], { fds }), { stdout: '/dev/null\n' })
})

t.test('a program that takes too long is killed', async t => {
  const pidFile = join(directory, 'late')
  await t.rejects(run(['sh', '-c', `echo $$ > ${pidFile}; exec sleep 1000`], { timeoutMs: 3000 }), { name: 'CommandError', timedOut: true, message: /sh gave no answer for 3000 ms/ })
  await untilGone(Number(await readFile(pidFile, 'utf8')))
})

t.test('an abort kills the program, waits until it is gone and rejects with the reason', async t => {
  const controller = new AbortController()
  const reason = new Error('not wanted any more')
  let pid = 0
  const running = run(['sh', '-c', 'trap "" TERM; echo $$; exec sleep 1000'], {
    signal: controller.signal,
    onStdout: text => {
      pid = Number(text)
      controller.abort(reason)
    }
  })
  t.equal(await running.catch((error: unknown) => error), reason)
  t.ok(pid > 0)
  t.notOk(isAlive(pid))
  const late = run(['sh', '-c', 'exit 0'], { signal: controller.signal })
  t.equal(await late.catch((error: unknown) => error), reason, 'aborted before it was started')
})

t.test('too much output ends the program, discarded output does not', async t => {
  await t.rejects(run(['yes'], { maxOutput: 10_000 }), { name: 'CommandError', tooMuchOutput: true, message: /yes printed more than expected/ })
  t.match(await run(['sh', '-c', 'head -c 1000000 /dev/zero'], { maxOutput: 0 }), { exitCode: 0, stdout: '' })
  t.match(await run(['sh', '-c', 'head -c 9999 /dev/zero | tr "\\0" x'], { maxOutput: 10_000 }), { exitCode: 0, stdout: 'x'.repeat(9999) })
})

t.test('output is handed on as it comes', async t => {
  const pieces: string[] = []
  const fifo = join(directory, 'fifo')
  await run(['mkfifo', fifo])
  // the program waits for us to have seen its first line
  const { stdout } = await run(['sh', '-c', `echo first; cat ${fifo}`], {
    onStdout: text => {
      if (pieces.length === 0) writeFileSync(fifo, 'second\n')
      pieces.push(text)
    }
  })
  t.same(pieces, ['first\n', 'second\n'])
  t.equal(stdout, 'first\nsecond\n')
})

t.test('a program dies with the process that runs it, also when that is killed', async t => {
  const runner = spawn(process.execPath, [...process.execArgv, fileURLToPath(new URL('../helpers/run-long.ts', import.meta.url))], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => { runner.kill('SIGKILL') })
  const [text] = await once(runner.stdout.setEncoding('utf8'), 'data') as [string]
  const pid = Number(text)
  t.ok(isAlive(pid))
  runner.kill('SIGKILL')
  await untilGone(pid)
  t.notOk(isAlive(pid))
})

t.test('an error says which program, and keeps what it left', async t => {
  const error = await runOk(['sh', '-c', 'echo words >&2; exit 9']).catch((error: unknown) => error)
  if (!(error instanceof CommandError)) throw error
  t.same([error.argv[0], error.exitCode, error.signal, error.stderr, error.timedOut, error.notFound], ['sh', 9, undefined, 'words\n', false, false])
})
