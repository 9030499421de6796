import { open } from 'node:fs/promises'
import t from 'tap'
import type { Progress } from '../../../src/api/task.ts'
import { Pulse } from '../../../src/storage/copy/pulse.ts'
import { run, runningPrograms } from '../../../src/system/run.ts'
import { temporaryDirectory } from '../../helpers/directory.ts'
import { commandLine, until } from '../../helpers/processes.ts'

// what it says of a storage that does not answer is shown by test/integration/hung-storage.test.ts, on one that does not

t.test('what a copy reports is passed on as it is while the storage answers, and not at all afterwards', async t => {
  const file = await open(await temporaryDirectory(t))
  t.teardown(async () => { await file.close() })
  const told: Progress[] = []
  const pulse = new Pulse([file.fd], progress => { told.push(progress) })
  const progress: Progress = { phase: 'copying', bytesDone: 1, bytesTotal: 2, bytesPerSecond: 3, etaSeconds: 4 }
  pulse.report(progress)
  t.same(told, [progress])
  pulse.stop()
  pulse.report({ ...progress, bytesDone: 2 })
  t.same(told, [progress])
})

t.test('a program that is stopped is told of, also before there is anything else to tell', async t => {
  const end = new AbortController()
  const running = run(['sleep', '1000'], { signal: end.signal }).catch(() => {})
  const [program] = await until(() => runningPrograms().length > 0 && runningPrograms())
  if (program === undefined) throw new Error('nothing runs')
  // what starts it becomes it
  await until(() => commandLine(program.pid).startsWith('sleep'))
  process.kill(program.pid, 'SIGSTOP')
  const told: Progress[] = []
  const pulse = new Pulse([], progress => { told.push(progress) }, { phase: 'copying' })
  t.teardown(() => { pulse.stop() })
  await until(() => told.length > 0)
  t.match(told[0], { phase: 'copying', stalledSince: String, stalledProcess: { pid: program.pid, name: 'sleep', state: 'stopped' } })
  end.abort()
  await running
  await until(() => told.at(-1)?.stalledSince === undefined)
  t.strictSame(runningPrograms(), [])
})
