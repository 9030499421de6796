import { spawn } from 'node:child_process'
import { once } from 'node:events'
import t from 'tap'
import type { Progress } from '../../src/api/task.ts'
import { WorkerWatch } from '../../src/storage/worker-watch.ts'
import { until } from '../helpers/processes.ts'

t.test('a worker that is stopped is told of, with what it said last, until it goes on', async t => {
  const child = spawn('sleep', ['1000'], { stdio: 'ignore' })
  t.teardown(() => { child.kill('SIGKILL') })
  await once(child, 'spawn')
  const told: Progress[] = []
  const watch = new WorkerWatch(child.pid, { phase: 'verifying' }, progress => { told.push(progress) })
  t.teardown(() => { watch.stop() })
  child.kill('SIGSTOP')
  await until(() => told.length > 0)
  t.match(told[0], { phase: 'verifying', stalledSince: String, stalledProcess: { pid: child.pid, name: 'copy worker', state: 'stopped' } })
  const said: Progress = { phase: 'copying', bytesDone: 1, bytesTotal: 2, bytesPerSecond: 3, etaSeconds: 4 }
  watch.report(said)
  t.match(told.at(-1), { phase: 'copying', bytesDone: 1, stalledProcess: Object })
  t.notMatch(told.at(-1), { bytesPerSecond: Number })
  t.notMatch(told.at(-1), { etaSeconds: Number })
  child.kill('SIGCONT')
  await until(() => told.at(-1)?.stalledSince === undefined)
  t.strictSame(told.at(-1), said)
})
