import t from 'tap'
import { answers } from '../../src/storage/answers.ts'
import { Workers, type Worker } from '../../src/storage/workers.ts'
import { copyAgent } from '../helpers/copy-agent.ts'
import { Clock } from '../helpers/clock.ts'
import { commandLine, descendants, until, untilGone } from '../helpers/processes.ts'

const listener = copyAgent()
const running = () => descendants(process.pid).filter(pid => commandLine(pid).includes('storage/copy/main'))
const first = async () => await until(() => running()[0], 'a worker')
const isUp = async (worker: Worker) => {
  await t.rejects(worker.call('A preview', answers.preview, async remote => await remote.preview({
    request: { what: 'mend', domain: 'nowhere', image: 'a.raw' }, bandwidth: null, places: [], host: { id: 'h' }, taskId: 't', settings
  })), { code: 'domain-not-found' })
}
const settings = { windowSeconds: 4, parallelWindows: 2, nice: 0, ioPriority: 'normal', clone: true, directIo: true, reserveBytes: 0 } as const

t.test('a worker that was made ready is the next one, and one that died is not', async t => {
  const workers = new Workers(settings)
  workers.prepare()
  const ready = await first()
  workers.prepare()
  t.same(running(), [ready], 'one is enough')
  const worker = workers.take(listener)
  t.same(running(), [ready])
  await isUp(worker)
  worker.end()
  await worker.gone

  workers.prepare()
  const dying = await first()
  process.kill(dying, 'SIGKILL')
  const next = await until(() => {
    workers.prepare()
    return running().find(pid => pid !== dying)
  }, 'another worker')
  const other = workers.take(listener)
  t.same(running(), [next])
  await isUp(other)
  other.end()
  await other.gone
})

t.test('a worker that nobody takes goes after a minute', async t => {
  const clock = new Clock(t, { atLeastMs: 60_000 })
  const workers = new Workers(settings)
  workers.prepare()
  const ready = await first()
  clock.pass(60_000)
  await untilGone(ready)
})
