import t from 'tap'
import type { Task } from '../../src/api/task.ts'
import { AppError, Canceled } from '../../src/errors.ts'
import type { TaskLog } from '../../src/tasks/kind.ts'
import { Clock } from '../helpers/clock.ts'
import { copyOf, deletionOf, makeRegistry, turn, type Told } from '../helpers/http-agent.ts'

const spec = copyOf('a.raw', 'b.raw')
const refusal = new AppError('no-space', 'There is no space.')
const halfDone = new AppError('storage-unresponsive', 'Who knows?', { changed: true })

const statesOf = (told: readonly Told[], id = 'a') => told.filter(({ what, task }) => what === 'transition' && task.id === id).map(({ task }) => task.state)

t.test('a body that is accepted and ends well goes pending, running, succeeded', async t => {
  const { registry, bodies, told } = makeRegistry(t)
  const { run } = registry.claim('a', spec)
  const body = await bodies.of('a')
  t.match(run.wire(), { state: 'pending', revision: 0 })
  body.accept()
  t.match(run.wire(), { state: 'running', revision: 1, startedAt: String })
  await body.succeed({ domain: 'local', image: 'b.raw' })
  t.match(run.wire(), { state: 'succeeded', revision: 2, result: { image: 'b.raw' }, endedAt: String, expiresAt: String })
  t.same(statesOf(told), ['pending', 'running', 'succeeded'])
})

t.test('a body that had nothing to do may end without having been accepted', async t => {
  const { registry, bodies, told } = makeRegistry(t)
  registry.claim('a', spec)
  await (await bodies.of('a')).succeed()
  t.same(statesOf(told), ['pending', 'running', 'succeeded'])
})

t.test('a body may be accepted, and may even end, before the claim returns', async t => {
  const { registry, bodies, told } = makeRegistry(t)
  bodies.script = body => { body.accept() }
  const { run } = registry.claim('a', deletionOf('b.raw'))
  t.equal(run.state, 'running')
  t.same(statesOf(told), ['pending', 'running'], 'observers are told in order')
})

// what the body throws, whether it was accepted and whether it was asked to stop, decide its end
const Reason = Symbol('signal.reason')
const outcomes: Array<[what: string, accepted: boolean, canceled: boolean, thrown: unknown, state: Task['state'], code: string | undefined]> = [
  ['a refusal', false, false, refusal, 'rejected', 'no-space'],
  ['a refusal after it was accepted', true, false, refusal, 'failed', 'no-space'],
  ['an error that may have changed something', false, false, halfDone, 'failed', 'storage-unresponsive'],
  ['an error that has changed something', true, false, halfDone, 'failed', 'storage-unresponsive'],
  ['an error nobody foresaw', false, false, new TypeError('x is not a function'), 'failed', 'internal'],
  ['an error nobody foresaw, later', true, false, new TypeError('x is not a function'), 'failed', 'internal'],
  ['nothing at all', true, false, undefined, 'failed', 'internal'],
  ['the reason of the cancel while it was pending', false, true, Reason, 'canceled', undefined],
  ['the reason of the cancel', true, true, Reason, 'canceled', undefined],
  ['a refusal that came before the cancel was seen', false, true, refusal, 'rejected', 'no-space'],
  ['an error of its own after a cancel', true, true, refusal, 'failed', 'no-space'],
  ['an unclear error after a cancel', false, true, halfDone, 'failed', 'storage-unresponsive'],
  ['an error nobody foresaw after a cancel', true, true, new Error('EBADF'), 'failed', 'internal']
]
for (const [what, accepted, canceled, thrown, state, code] of outcomes) {
  t.test(`a body that throws ${what} is ${state}`, async t => {
    const { registry, bodies } = makeRegistry(t)
    const { run } = registry.claim('a', spec)
    const body = await bodies.of('a')
    if (accepted) body.accept()
    if (canceled) registry.cancel(run)
    await body.fail(thrown === Reason ? body.context.signal.reason : thrown)
    t.equal(run.state, state)
    t.equal(run.error?.code, code)
    t.notMatch(run.error?.detail ?? '', /function|EBADF/, 'what was not foreseen gives nothing away')
  })
}

for (const accepted of [false, true]) {
  t.test(`a success that a cancel came too late for stays a success${accepted ? '' : ', also while pending'}`, async t => {
    const { registry, bodies, told } = makeRegistry(t)
    const { run } = registry.claim('a', spec)
    const body = await bodies.of('a')
    if (accepted) body.accept()
    registry.cancel(run)
    await body.succeed()
    t.match(run.wire(), { state: 'succeeded', result: { image: 'b.raw' }, startedAt: String })
    t.same(statesOf(told), ['pending', ...(accepted ? ['running'] : []), 'canceling', 'succeeded'])
  })
}

t.test('a canceled task tells by startedAt whether something is left on the storage', async t => {
  const { registry, bodies } = makeRegistry(t)
  for (const [id, accepted] of [['before', false], ['after', true]] as const) {
    const { run } = registry.claim(id, copyOf('a.raw', `${id}.raw`))
    const body = await bodies.of(id)
    registry.cancel(run)
    if (accepted) body.accept()
    t.equal(run.state, 'canceling')
    await body.yield()
    t.equal(run.state, 'canceled')
    t.equal('startedAt' in run.wire(), accepted)
  }
})

t.test('canceling twice asks once', async t => {
  const { registry, bodies, told } = makeRegistry(t)
  const { run } = registry.claim('a', spec)
  const body = await bodies.of('a')
  registry.cancel(run)
  const { reason } = body.context.signal
  registry.cancel(run)
  t.equal(body.context.signal.reason, reason)
  await body.yield()
  registry.cancel(run)
  t.same(statesOf(told), ['pending', 'canceling', 'canceled'])
})

t.test('an accept that takes too long is decided then, and its image stays in use until the body has settled', async t => {
  const clock = new Clock(t)
  const { registry, bodies } = makeRegistry(t, { acceptDeadlineMs: 10_000 })
  const { run } = registry.claim('a', spec)
  const body = await bodies.of('a')
  clock.pass(9999)
  t.equal(run.state, 'pending')
  clock.pass(1)
  t.match(run.wire(), { state: 'failed', error: { code: 'storage-unresponsive', status: 504 } })
  t.equal(body.context.signal.aborted, true, 'the body is told to stop')
  t.throws(() => registry.claim('b', deletionOf('b.raw')), { code: 'resource-busy', members: { holder: 'a' } })
  body.accept()
  body.progress({ bytesDone: 1 })
  const before = run.etag
  await body.yield()
  t.equal(run.etag, before, 'what was decided stays decided')
  t.equal(registry.claim('b', deletionOf('b.raw')).how, 'created')
})

t.test('a deadline that passes while the storage answers does not blame it', async t => {
  const clock = new Clock(t)
  const probes: Array<{ answer: () => void, fail: (error: unknown) => void }> = []
  const { registry, bodies } = makeRegistry(t, { acceptDeadlineMs: 10_000, definition: { answers: async () => { await new Promise<void>((resolve, reject) => { probes.push({ answer: resolve, fail: reject }) }) } } })
  const begin = async (id: string) => {
    const { run } = registry.claim(id, copyOf('s', `${id}.raw`))
    const body = await bodies.of(id)
    probes.length = 0
    return { run, body }
  }
  const settle = async () => { for (let turns = 0; turns < 5; turns++) await turn() }

  const busy = await begin('busy')
  clock.pass(4999)
  t.equal(probes.length, 0, 'a command that is accepted soon asks for nothing')
  clock.pass(1)
  for (let second = 0; second < 54; second++) {
    t.equal(busy.run.state, 'pending', 'a host that is busy is waited for')
    probes.at(-1)?.answer()
    await settle()
    clock.pass(1000)
  }
  t.equal(busy.run.state, 'pending')
  probes.at(-1)?.answer()
  await settle()
  clock.pass(1000)
  t.match(busy.run.error, { code: 'accept-overdue', status: 504, detail: /although the storage answers/ })
  t.notOk(busy.body.context.signal.reason instanceof Canceled, 'it was not a caller')

  const hung = await begin('hung')
  clock.pass(10_000)
  t.match(hung.run.error, { code: 'storage-unresponsive' }, 'no answer')

  const late = await begin('late')
  clock.pass(5000)
  probes[0]?.answer()
  await settle()
  clock.pass(1000)
  t.equal(probes.length, 2, 'it is asked again')
  clock.pass(4000)
  t.match(late.run.error, { code: 'storage-unresponsive' }, 'it has answered, and then no more')

  const refusing = await begin('refusing')
  clock.pass(5000)
  probes[0]?.fail(refusal)
  await settle()
  clock.pass(5000)
  t.match(refusing.run.error, { code: 'storage-unresponsive' })

  const stepping = await begin('stepping')
  clock.pass(5000)
  probes[0]?.answer()
  await settle()
  stepping.body.context.accepting()
  clock.pass(9999)
  t.equal(stepping.run.state, 'pending')
  clock.pass(1)
  t.match(stepping.run.error, { code: 'storage-unresponsive' }, 'an answer from before the last step says nothing')
  for (const { body } of [busy, hung, late, refusing, stepping]) await body.yield()
})

t.test('whatever a body does after the deadline changes nothing', async t => {
  const clock = new Clock(t)
  const { registry, bodies, told } = makeRegistry(t, { acceptDeadlineMs: 10 })
  for (const [id, end] of [['a', 'succeed'], ['b', 'yield'], ['c', 'fail']] as const) {
    registry.claim(id, copyOf('s', id))
    const body = await bodies.of(id)
    clock.pass(10)
    await (end === 'fail' ? body.fail(refusal) : body[end]())
    t.same(statesOf(told, id), ['pending', 'failed'])
  }
  t.equal(registry.active, 0)
})

t.test('the deadline is for accepting: once accepted, a body has all the time it wants', async t => {
  const clock = new Clock(t)
  const { registry, bodies } = makeRegistry(t, { acceptDeadlineMs: 10 })
  const { run } = registry.claim('a', spec)
  const body = await bodies.of('a')
  body.accept()
  clock.pass(1e6)
  t.equal(run.state, 'running')
})

t.test('the deadline is for a storage that does not answer: where accepting takes many steps, it begins anew with each', async t => {
  const clock = new Clock(t)
  const { registry, bodies } = makeRegistry(t, { acceptDeadlineMs: 10 })
  const { run } = registry.claim('a', spec)
  const { context } = await bodies.of('a')
  for (let steps = 0; steps < 5; steps++) {
    clock.pass(9)
    context.accepting()
  }
  t.equal(run.state, 'pending')
  clock.pass(10)
  t.match(run.wire(), { state: 'failed', error: { code: 'storage-unresponsive' } })
  context.accepting()
  clock.pass(1e6)
  t.equal(registry.active, 0, 'what was decided stays decided')
})

t.test('a cancel during an accept that hangs ends at the deadline', async t => {
  const clock = new Clock(t)
  const { registry, bodies } = makeRegistry(t, { acceptDeadlineMs: 10 })
  const { run } = registry.claim('a', spec)
  await bodies.of('a')
  registry.cancel(run)
  t.equal(run.state, 'canceling')
  clock.pass(10)
  t.match(run.wire(), { state: 'failed', error: { code: 'storage-unresponsive' } })
})

t.test('errors of our own making are logged, those that callers are told are not', async t => {
  const logged: unknown[] = []
  const log: TaskLog = { info: () => {}, warn: () => {}, error: fields => { logged.push(fields) } }
  const { registry, bodies } = makeRegistry(t, { log })
  const bug = new TypeError('x is not a function')
  const ends: Array<[string, unknown]> = [['a', refusal], ['b', bug], ['c', Reason]]
  for (const [id, thrown] of ends) {
    const { run } = registry.claim(id, copyOf('s', id))
    const body = await bodies.of(id)
    if (thrown === Reason) registry.cancel(run)
    await body.fail(thrown === Reason ? body.context.signal.reason : thrown)
  }
  t.same(logged, [{ err: bug, task: 'b' }])
})

t.test('progress is published at most twice a second, the newest of it, and the last of it before the end', async t => {
  const clock = new Clock(t)
  const { registry, bodies, told } = makeRegistry(t)
  const { run } = registry.claim('a', spec)
  const body = await bodies.of('a')
  body.accept()
  const shown = () => run.wire().progress?.bytesDone
  for (let n = 1; n <= 100; n++) {
    body.progress({ bytesDone: n })
    clock.pass(10)
  }
  t.same(told.filter(({ what }) => what === 'progress').map(({ task }) => task.progress?.bytesDone), [1, 50, 100])
  t.equal(run.tick, 3)
  body.progress({ bytesDone: 101 })
  t.equal(shown(), 100)
  await body.succeed()
  t.equal(shown(), 101)
  body.progress({ bytesDone: 102 })
  clock.pass(1000)
  t.equal(shown(), 101, 'nothing comes after the end')
  t.same(told.slice(-2).map(({ what, task }) => [what, task.state, task.progress?.bytesDone]), [['progress', 'running', 101], ['transition', 'succeeded', 101]])
  t.equal(clock.waiting, 1, 'only the timer of the retention is left')
})

for (const end of ['yield', 'fail'] as const) {
  t.test(`the last progress is seen also of a body that ends by ${end}`, async t => {
    const { registry, bodies } = makeRegistry(t)
    const { run } = registry.claim('a', spec)
    const body = await bodies.of('a')
    body.accept()
    body.progress({ bytesDone: 1 })
    body.progress({ bytesDone: 2 })
    if (end === 'yield') registry.cancel(run)
    await (end === 'yield' ? body.yield() : body.fail(refusal))
    t.equal(run.wire().progress?.bytesDone, 2)
  })
}

t.test('beyond the limit of their queue tasks wait in order, and know their position', async t => {
  const clock = new Clock(t)
  const { registry, bodies, told } = makeRegistry(t, { queues: { copy: 1 } })
  const ids = ['a', 'b', 'c', 'd']
  const [a, b, c, d] = ids.map(id => registry.claim(id, copyOf('s', id)).run)
  const positions = () => ids.map(id => registry.find(id)?.wire().progress?.queuePosition)
  t.same(positions(), [undefined, 1, 2, 3])
  t.match(d?.wire(), { state: 'pending', progress: { phase: 'queued', queuePosition: 3 } })
  const first = await bodies.of('a')
  t.equal(bodies.all.length, 1)
  first.accept()
  if (c !== undefined) registry.cancel(c)
  t.match(c?.wire(), { state: 'canceled' })
  t.notOk('startedAt' in (c?.wire() ?? {}))
  clock.pass(500)
  t.same(positions(), [undefined, 1, 2, 2])
  await first.succeed()
  const second = await bodies.of('b')
  t.same(b?.wire().progress, undefined, 'who has begun waits no more')
  clock.pass(500)
  t.same(positions(), [undefined, undefined, 2, 1])
  await second.fail(refusal)
  await (await bodies.of('d')).succeed()
  t.same([a, b, c, d].map(run => run?.state), ['succeeded', 'rejected', 'canceled', 'succeeded'])
  t.same(bodies.all.map(({ id }) => id), ['a', 'b', 'd'], 'who was canceled in the queue never began')
  t.same(told.filter(({ task, what }) => task.id === 'd' && what === 'progress').map(({ task }) => task.progress?.queuePosition), [3, 2, 1])
})

t.test('of its places in the queue a task is told at most twice a second, and of none when it has begun', async t => {
  const clock = new Clock(t)
  const { registry, bodies, told } = makeRegistry(t, { queues: { copy: 1 } })
  const { run: first } = registry.claim('first', copyOf('s', 'first'))
  const ahead = Array.from({ length: 100 }, (_, n) => registry.claim(`t${n}`, copyOf('s', `t${n}`)).run)
  const { run: last } = registry.claim('last', copyOf('s', 'last'))
  const firstBody = await bodies.of('first')
  const shown = () => told.filter(({ task, what }) => task.id === 'last' && what === 'progress').map(({ task }) => task.progress?.queuePosition)
  for (const run of ahead.slice(0, 98)) {
    registry.cancel(run)
    clock.pass(10)
  }
  t.same(shown(), [101, 51], 'at once, and after half a second')
  clock.pass(1000)
  t.same(shown(), [101, 51, 3], 'the last one is not held back for ever')
  for (const run of [...ahead.slice(98), first]) registry.cancel(run)
  t.same(shown(), [101, 51, 3, 2])
  await firstBody.yield()
  const body = await bodies.of('last')
  clock.pass(1000)
  t.same(shown(), [101, 51, 3, 2])
  t.notOk('progress' in last.wire())
  body.accept()
  await body.succeed()
  t.equal(clock.waiting, 1, 'only the timer of the retention is left')
})

t.test('a task in the queue has no deadline', async t => {
  const clock = new Clock(t)
  const { registry, bodies } = makeRegistry(t, { queues: { copy: 1 }, acceptDeadlineMs: 10 })
  registry.claim('a', copyOf('s', 'a'))
  const { run } = registry.claim('b', copyOf('s', 'b'))
  const first = await bodies.of('a')
  first.accept()
  clock.pass(1e6)
  t.equal(run.state, 'pending')
  await first.succeed()
  await bodies.of('b')
  clock.pass(10)
  t.equal(run.state, 'failed')
})

t.test('a place in the queue that a hanging body holds is not given away at its deadline', async t => {
  const clock = new Clock(t)
  const { registry, bodies } = makeRegistry(t, { queues: { copy: 1 }, acceptDeadlineMs: 10 })
  registry.claim('a', copyOf('s', 'a'))
  registry.claim('b', copyOf('s', 'b'))
  clock.pass(10)
  await turn()
  t.equal(bodies.all.length, 1)
  await (await bodies.of('a')).yield()
  await bodies.of('b')
})

t.test('an accepted body whose storage does not answer gives its place to the next one, and keeps its image', async t => {
  const { registry, bodies } = makeRegistry(t, { queues: { copy: 1 } })
  const { run } = registry.claim('a', copyOf('s', 'a'))
  registry.claim('b', copyOf('s', 'b'))
  const first = await bodies.of('a')
  first.progress({ phase: 'copying', stalledSince: '2026-01-01T00:00:00.000Z' })
  await turn()
  t.equal(bodies.all.length, 1, 'not before it is accepted')
  first.accept()
  first.progress({ phase: 'copying', stalledSince: '2026-01-01T00:00:00.000Z' })
  const second = await bodies.of('b')
  t.equal(run.state, 'running')
  t.throws(() => registry.claim('c', deletionOf('a')), { code: 'resource-busy' })
  await first.succeed()
  await second.succeed()
  t.equal(run.state, 'succeeded')
})

t.test('a cancel between leaving the queue and beginning is not lost', async t => {
  // the moment is caught by the position of the one behind, which is told as soon as `b` is let in if none was just before
  const clock = new Clock(t)
  const { registry, bodies } = makeRegistry(t, {
    queues: { copy: 1 },
    observer: {
      transition: () => {},
      forgotten: () => {},
      progress: ({ id, progress }) => { if (id === 'c' && progress?.queuePosition === 1) registry.cancel(b) }
    }
  })
  registry.claim('a', copyOf('s', 'a'))
  const { run: b } = registry.claim('b', copyOf('s', 'b'))
  registry.claim('c', copyOf('s', 'c'))
  clock.pass(500)
  await (await bodies.of('a')).succeed()
  await (await bodies.of('c')).succeed()
  t.equal(b.state, 'canceled')
  t.same(bodies.all.map(({ id }) => id), ['a', 'c'])
})

t.test('the bandwidth can be changed before, while and never after the body runs', async t => {
  const { registry, bodies } = makeRegistry(t, { queues: { copy: 1 } })
  registry.claim('a', copyOf('s', 'a'))
  const { run } = registry.claim('b', copyOf('s', 'b'))
  registry.tune(run, { bandwidth: 1 })
  registry.tune(run, { bandwidth: 2 })
  await (await bodies.of('a')).succeed()
  const body = await bodies.of('b')
  t.same(body.bandwidths, [2])
  body.accept()
  registry.tune(run, { bandwidth: null })
  t.same(body.bandwidths, [2, null])
  registry.cancel(run)
  registry.tune(run, { bandwidth: 3 })
  await body.yield()
  t.throws(() => { registry.tune(run, { bandwidth: 4 }) }, { code: 'task-finished' })
  t.same(body.bandwidths, [2, null, 3])
})
