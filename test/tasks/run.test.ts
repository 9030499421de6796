import { getEventListeners, setMaxListeners } from 'node:events'
import t from 'tap'
import { Run } from '../../src/tasks/run.ts'
import { copyOf } from '../helpers/http-agent.ts'

function runOf (of: { replaces?: string } = {}): Run {
  return new Run({ id: 'a', spec: copyOf('a.raw', 'b.raw'), specDigest: 'd', cancelable: true, instance: 'i', replaces: of.replaces, createdAt: 0 })
}

/** Resolves to whether it has settled by the time that everything which can happen has happened. */
async function isSettled (promise: Promise<unknown>): Promise<boolean> {
  let settled = false
  promise.then(() => { settled = true }, () => { settled = true })
  await new Promise(resolve => { setImmediate(resolve) })
  return settled
}

t.test('an illegal move changes nothing', async t => {
  const run = runOf()
  t.equal(run.move('running', 1), true)
  const before = run.wire()
  t.equal(run.move('rejected', 2), false)
  t.equal(run.move('canceled', 2, { error: { type: '', title: '', status: 500, code: 'x', detail: '' } }), false)
  t.equal(run.wire(), before)
})

t.test('what does not apply is absent, and times are where they belong', async t => {
  const run = runOf()
  t.same(Object.keys(run.wire()).sort(), ['cancelable', 'createdAt', 'id', 'instance', 'kind', 'revision', 'runId', 'spec', 'specDigest', 'state', 'tick'])
  run.move('running', 1000)
  t.match(run.wire(), { startedAt: '1970-01-01T00:00:01.000Z', revision: 1 })
  run.move('succeeded', 2000, { result: { domain: 'local', image: 'b.raw' } })
  t.match(run.wire(), { startedAt: '1970-01-01T00:00:01.000Z', endedAt: '1970-01-01T00:00:02.000Z', revision: 2, result: { image: 'b.raw' } })
  t.match(runOf({ replaces: '"x"' }).wire(), { replaces: '"x"' })
})

t.test('what has finished cannot be canceled, whichever way it did', async t => {
  for (const way of [['running', 'succeeded'], ['running', 'failed'], ['rejected'], ['canceling', 'canceled']] as const) {
    const run = runOf()
    t.equal(run.wire().cancelable, true)
    for (const state of way) run.move(state, 1)
    t.match(run.wire(), { state: way.at(-1), cancelable: false })
  }
})

t.test('whatever changes what is shown changes the tag', async t => {
  const run = runOf()
  const seen = new Map<string, string>()
  const look = () => {
    const shown = JSON.stringify(run.wire())
    t.equal(seen.get(run.etag) ?? shown, shown, 'one tag, one representation')
    seen.set(run.etag, shown)
  }
  look()
  run.publish({ phase: 'queued', queuePosition: 1 })
  look()
  run.publish(undefined)
  look()
  run.move('canceling', 1)
  look()
  run.accept(2)
  look()
  run.publish({ phase: 'copying' })
  look()
  run.move('canceled', 3)
  look()
  t.equal(seen.size, 6)
})

t.test('accepting makes a pending run running, and leaves a canceling one canceling', async t => {
  const run = runOf()
  t.equal(run.accept(1), true)
  t.equal(run.state, 'running')
  t.equal(run.accept(2), false, 'once')
  t.equal(run.startedAt, 1)

  const canceling = runOf()
  canceling.move('canceling', 1)
  t.equal(canceling.accept(2), false)
  t.equal(canceling.state, 'canceling')
  canceling.move('canceled', 3)
  t.match(canceling.wire(), { state: 'canceled', startedAt: '1970-01-01T00:00:00.002Z' }, 'something is left on the storage')

  const late = runOf()
  late.move('failed', 1)
  t.equal(late.accept(2), false)
  t.equal(late.startedAt, undefined)
})

t.test('waiting ends at once when it holds already, there is no time, or a signal was aborted', async t => {
  const run = runOf()
  await run.wait(() => true, 1000)
  await run.wait(() => false, 0)
  await run.wait(() => false, 1e9, [AbortSignal.abort()])
  await run.wait(() => false, 1, [new AbortController().signal])
})

t.test('waiting ends with the transition that is waited for, not with another and not with progress', async t => {
  const run = runOf()
  const waiting = run.wait(({ finished }) => finished, 1e6)
  run.publish({ phase: 'copying' })
  run.move('running', 1)
  t.equal(await isSettled(waiting), false)
  run.move('succeeded', 2)
  t.equal(await isSettled(waiting), true)
})

t.test('waiting ends when the id is lost', async t => {
  const run = runOf()
  const waiting = run.wait(({ retired }) => retired, 1e6)
  run.retire()
  t.equal(await isSettled(waiting), true)
})

t.test('a thousand who wait leave neither timer nor listener, however it ends', async t => {
  const timers = () => process.getActiveResourcesInfo().filter(name => name === 'Timeout').length
  const before = timers()
  for (const end of [
    (run: Run) => { run.move('failed', 1) },
    (run: Run) => { run.retire() },
    (_: Run, stop: AbortController) => { stop.abort() }
  ]) {
    const run = runOf()
    const stop = new AbortController()
    setMaxListeners(0, stop.signal)
    const gone = Array.from({ length: 1000 }, () => new AbortController())
    const waiting = gone.map(async ({ signal }) => { await run.wait(({ finished, retired }) => finished || retired, 1e6, [stop.signal, signal]) })
    t.equal(timers() - before, 1000)
    t.equal(getEventListeners(stop.signal, 'abort').length, 1000)
    end(run, stop)
    await Promise.all(waiting)
    t.equal(timers(), before)
    t.equal(getEventListeners(stop.signal, 'abort').length, 0)
    t.ok(gone.every(({ signal }) => getEventListeners(signal, 'abort').length === 0))
  }
  const run = runOf()
  const gone = new AbortController()
  const waiting = run.wait(() => false, 1e6, [gone.signal])
  gone.abort()
  await waiting
  await run.wait(() => false, 1)
  t.equal(timers(), before)
})
