import t from 'tap'
import { AppError } from '../../src/errors.ts'
import { retryAfter } from '../../src/tasks/registry.ts'
import { Clock } from '../helpers/clock.ts'
import { copyOf, deletionOf, makeRegistry, turn, type Registered } from '../helpers/http-agent.ts'

const spec = copyOf('a.raw', 'b.raw')
const refusal = new AppError('no-space', 'There is no space.')

async function finished ({ registry, bodies }: Registered, id: string, end: 'succeed' | 'reject' = 'succeed') {
  const { run } = registry.claim(id, copyOf('s', id))
  const body = bodies.all.filter(body => body.id === id).at(-1) ?? await bodies.of(id)
  await (end === 'succeed' ? body.succeed() : body.fail(refusal))
  return run
}

const ids = ({ registry }: Registered) => [...registry.runs()].map(({ id }) => id)

t.test('a claim is answered in one turn: of many at once one creates and the others join', async t => {
  const { registry, bodies } = makeRegistry(t)
  const claims = Array.from({ length: 50 }, () => registry.claim('a', copyOf('a.raw', 'b.raw')))
  t.same(claims.map(({ how }) => how), ['created', ...Array(49).fill('joined')])
  t.equal(new Set(claims.map(({ run }) => run)).size, 1)
  await bodies.of('a')
  await turn()
  t.equal(bodies.all.length, 1)
})

t.test('a claim that is refused leaves no trace', async t => {
  const { registry, told, bodies } = makeRegistry(t, { maxActive: 1 })
  registry.claim('a', spec)
  const before = told.length
  for (const claim of [
    () => registry.claim('b', copyOf('a.raw', 'b.raw')),
    () => registry.claim('b', copyOf('x', 'y')),
    () => registry.claim('a', copyOf('x', 'y')),
    () => registry.claim('b', copyOf('x', 'y'), { instance: 'other' }),
    () => registry.claim('b', copyOf('x', 'y'), { ifMatch: '*' }),
    () => registry.claim('a', spec, { ifNoneMatch: '*' })
  ]) t.throws(claim, AppError)
  t.equal(told.length, before)
  t.equal(registry.find('b'), undefined)
  await (await bodies.of('a')).succeed()
  t.equal(registry.claim('b', copyOf('a.raw', 'b.raw')).how, 'created', 'nothing that was refused holds an image')
})

t.test('the kind looks at the request before anything else is looked up', async t => {
  const { registry } = makeRegistry(t, { definition: { check: () => { throw new AppError('same-image', 'No.') } } })
  for (const conditions of [{}, { instance: 'other' }, { ifMatch: '*' as const }]) {
    t.throws(() => registry.claim('a', spec, conditions), { code: 'same-image' })
  }
  await t.rejects(registry.preview('a', spec), { code: 'same-image' })
})

t.test('two copies of one source run together; its deletion, or another copy to one target, names who holds it', async t => {
  const { registry, bodies } = makeRegistry(t)
  registry.claim('a', copyOf('s', 'a'))
  registry.claim('b', copyOf('s', 'b'))
  for (const [id, spec, holder] of [
    ['d', deletionOf('s'), 'a'],
    ['d', deletionOf('a'), 'a'],
    ['d', copyOf('s', 'b'), 'b'],
    ['d', copyOf('b', 'd'), 'b'],
    ['d', copyOf('x', 's'), 'a']
  ] as const) t.throws(() => registry.claim(id, spec), { code: 'resource-busy', members: { holder } })
  await (await bodies.of('a')).succeed()
  t.throws(() => registry.claim('d', deletionOf('s')), { code: 'resource-busy', members: { holder: 'b' } })
  await (await bodies.of('b')).fail(refusal)
  t.equal(registry.claim('d', deletionOf('s')).how, 'created')
})

t.test('a task whose body is still at it keeps its image even when it was forgotten', async t => {
  const clock = new Clock(t)
  const { registry, bodies } = makeRegistry(t, { acceptDeadlineMs: 10 })
  const { run } = registry.claim('a', spec)
  const body = await bodies.of('a')
  clock.pass(10)
  registry.forget(run)
  t.equal(registry.find('a'), undefined)
  t.throws(() => registry.claim('b', spec), { code: 'resource-busy', members: { holder: 'a' } })
  await body.yield()
  t.equal(registry.claim('b', spec).how, 'created')
})

t.test('at the limit of active tasks there is room for nobody, but who is there is joined', async t => {
  const { registry, bodies } = makeRegistry(t, { maxActive: 2 })
  registry.claim('a', copyOf('s', 'a'))
  registry.claim('b', copyOf('s', 'b'))
  t.throws(() => registry.claim('c', copyOf('s', 'c')), { code: 'agent-busy', members: { retryAfter: Number } })
  t.equal(registry.claim('a', copyOf('s', 'a')).how, 'joined')
  t.equal(registry.active, 2)
  await (await bodies.of('a')).succeed()
  t.equal(registry.active, 1)
  t.equal(registry.claim('c', copyOf('s', 'c')).how, 'created')
  t.throws(() => registry.claim('a', copyOf('s', 'a'), { ifMatch: '*' }), { code: 'agent-busy' }, 'a reused id needs room like any other')
  t.equal(registry.find('a')?.state, 'succeeded', 'and its result stays when there is none')
})

t.test('at the limit of retained tasks the oldest rejected one goes first, then nobody may come', async t => {
  const agent = makeRegistry(t, { maxRetained: 4 })
  const { registry, told } = agent
  await finished(agent, 'a')
  const rejected = await finished(agent, 'b', 'reject')
  await finished(agent, 'c')
  await finished(agent, 'd', 'reject')
  await finished(agent, 'e')
  t.same(ids(agent), ['a', 'c', 'd', 'e'])
  t.match(told.filter(({ what }) => what === 'forgotten'), [{ task: { id: 'b', runId: rejected.runId } }])
  await finished(agent, 'f')
  t.same(ids(agent), ['a', 'c', 'e', 'f'])
  t.throws(() => registry.claim('g', copyOf('s', 'g')), { code: 'agent-busy' })
  t.same(ids(agent), ['a', 'c', 'e', 'f'], 'a result is never lost to make room')
})

t.test('at the limit of retained tasks a run that takes over a record needs no room', async t => {
  const agent = makeRegistry(t, { maxRetained: 3 })
  const { registry } = agent
  await finished(agent, 'a')
  await finished(agent, 'b', 'reject')
  await finished(agent, 'c', 'reject')
  t.equal(registry.claim('a', copyOf('s', 'a'), { ifMatch: '*' }).how, 'created')
  t.equal(registry.claim('c', copyOf('s', 'c')).how, 'created')
  t.same(ids(agent), ['b', 'a', 'c'], 'nobody was evicted, and the new runs are the youngest')
})

t.test('a dry run evicts nobody', async t => {
  const agent = makeRegistry(t, { maxRetained: 1 })
  await finished(agent, 'a', 'reject')
  t.match(await agent.registry.preview('b', spec), { how: 'created' })
  t.same(ids(agent), ['a'])
  t.equal(agent.told.filter(({ what }) => what === 'forgotten').length, 0)
})

t.test('a dry run says what the kind foresees, or throws what it would refuse', async t => {
  const { registry, bodies } = makeRegistry(t, {
    definition: {
      preview: async spec => {
        if (spec.kind === 'storage.deleteImage') throw refusal
        return { bytesTotal: 5 }
      }
    }
  })
  t.same(await registry.preview('a', spec), { how: 'created', preview: { bytesTotal: 5 } })
  await t.rejects(registry.preview('a', deletionOf('x')), refusal)
  t.equal(registry.find('a'), undefined)
  t.equal(bodies.all.length, 0)
})

t.test('finished tasks are forgotten when their time is up, active ones never, and nobody is told', async t => {
  const clock = new Clock(t)
  const agent = makeRegistry(t, { retentionMs: 1000 })
  const { registry, bodies, told } = agent
  const run = await finished(agent, 'a')
  registry.claim('b', copyOf('s', 'b'))
  const body = await bodies.of('b')
  body.accept()
  clock.pass(999)
  t.same(ids(agent), ['a', 'b'])
  t.equal(run.retired, false)
  clock.pass(1)
  t.same(ids(agent), ['b'])
  t.equal(run.retired, true)
  clock.pass(1e6)
  t.same(ids(agent), ['b'])
  t.notOk(told.some(({ what }) => what === 'forgotten'), 'expiry is read from expiresAt')
  t.equal(registry.claim('a', deletionOf('x')).how, 'created', 'the id is free')
})

t.test('the end of a run that was replaced does not take the new run along', async t => {
  const clock = new Clock(t)
  const agent = makeRegistry(t, { retentionMs: 1000 })
  const { registry, bodies } = agent
  const first = await finished(agent, 'a')
  clock.pass(500)
  const { run } = registry.claim('a', copyOf('s', 'a'), { ifMatch: '*' })
  t.equal(first.retired, true)
  await (await bodies.of('a', 2)).succeed()
  clock.pass(999)
  t.equal(registry.find('a'), run)
  clock.pass(1)
  t.equal(registry.find('a'), undefined)
})

t.test('forgetting is told, and makes the id free', async t => {
  const agent = makeRegistry(t)
  const run = await finished(agent, 'a')
  agent.registry.forget(run)
  t.equal(agent.registry.find('a'), undefined)
  t.match(agent.told.at(-1), { what: 'forgotten', task: { id: 'a', runId: run.runId } })
  t.equal(agent.registry.claim('a', deletionOf('x')).how, 'created')
})

t.test('forgetting a run that was replaced does not take the new run along', async t => {
  const agent = makeRegistry(t)
  const first = await finished(agent, 'a')
  const { run } = agent.registry.claim('a', first.spec, { ifMatch: '*' })
  agent.registry.forget(first)
  t.equal(agent.registry.find('a'), run)
})

t.test('the list stays in order when the wall clock is set back', async t => {
  const clock = new Clock(t)
  const agent = makeRegistry(t)
  await finished(agent, 'a')
  clock.wall -= 3_600_000
  await finished(agent, 'b')
  clock.wall += 7_200_000
  await finished(agent, 'c')
  const runs = [...agent.registry.runs()]
  t.same(runs.map(({ id }) => id), ['a', 'b', 'c'])
  const key = (n: number) => [runs[n]?.createdAt, runs[n]?.runId]
  for (const n of [0, 1]) t.ok(key(n) < key(n + 1), `${key(n)} < ${key(n + 1)}`)
})

t.test('a hundred runs of one millisecond have run ids in the order of their making', async t => {
  const clock = new Clock(t)
  const { registry } = makeRegistry(t, { maxActive: 1000 })
  const runs = Array.from({ length: 100 }, (_, n) => registry.claim(`t${n}`, copyOf('s', `t${n}`)).run)
  t.equal(new Set(runs.map(({ createdAt }) => createdAt)).size, 1)
  t.same(runs.map(({ runId }) => runId), runs.map(({ runId }) => runId).sort())
  clock.pass(1)
})

t.test('ids that are names of a prototype are ids like any other', async t => {
  const agent = makeRegistry(t)
  for (const id of ['constructor', 'toString', 'hasOwnProperty', '__proto__']) {
    t.equal(agent.registry.find(id), undefined)
    const run = await finished(agent, id)
    t.equal(agent.registry.find(id), run)
  }
})

t.test('a stop lets everybody go who waits, and begins nothing new', async t => {
  const agent = makeRegistry(t)
  const { registry } = agent
  const done = await finished(agent, 'done')
  const { run } = registry.claim('a', spec)
  const waiting = run.wait(({ finished }) => finished, 1e6, [registry.stopping])
  registry.stop()
  await waiting
  t.equal(run.state, 'pending', 'what runs is left alone')
  t.throws(() => registry.claim('b', copyOf('x', 'y')), { code: 'agent-stopping', members: { retryAfter: Number } })
  t.equal(registry.claim('a', spec).how, 'joined')
  t.equal(registry.claim('done', done.spec).how, 'stored')
})

t.test('looking again is worth while after a tenth of what is left, between 1 s and 30 s', async t => {
  const { registry, bodies } = makeRegistry(t)
  const { run } = registry.claim('a', spec)
  t.equal(retryAfter(run), 1)
  const body = await bodies.of('a')
  body.accept()
  for (const [etaSeconds, seconds] of [[0, 1], [9, 1], [55, 6], [200, 20], [1e9, 30]] as const) {
    run.publish({ phase: 'copying', etaSeconds })
    t.equal(retryAfter(run), seconds)
  }
})
