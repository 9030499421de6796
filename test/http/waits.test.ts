import { getEventListeners } from 'node:events'
import t, { type Test } from 'tap'
import { AppError } from '../../src/errors.ts'
import { Clock } from '../helpers/clock.ts'
import { copyOf, startAgent, until, type AgentOptions, type TestAgent } from '../helpers/http-agent.ts'
import { isProblem, type Reply } from '../helpers/http-client.ts'
import { drive, refusal } from '../helpers/http-states.ts'

/** An agent whose waits end only when the test lets time go by. */
async function startWithClock (t: Test, options: AgentOptions = {}): Promise<TestAgent & { clock: Clock, waiting: (count: number) => Promise<void> }> {
  const clock = new Clock(t, { atLeastMs: 1000 })
  const agent = await startAgent(t, { retentionMs: 1e9, acceptDeadlineMs: 1e8, ...options })
  // no more than the waits themselves listen to the stop
  const waiting = async (count: number) => { await until(() => getEventListeners(agent.registry.stopping, 'abort').length === count) }
  return { ...agent, clock, waiting }
}

/** Whether a reply has come by the time that another request, sent later, was answered. */
async function isAnswered (agent: TestAgent, reply: Promise<Reply>): Promise<boolean> {
  let answered = false
  reply.then(() => { answered = true }, () => { answered = true })
  await agent.client.get('/tasks/nobody')
  return answered
}

const spec = copyOf('a.raw', 'b.raw')

t.test('a PUT is answered as soon as the task is accepted', async t => {
  const agent = await startWithClock(t)
  const reply = agent.client.put('/tasks/a', spec)
  const body = await agent.bodies.of('a')
  await agent.waiting(1)
  t.equal(await isAnswered(agent, reply), false)
  body.accept()
  t.match(await reply, { status: 202, task: { state: 'running' } })
  t.notOk('preference-applied' in (await reply).headers)
})

t.test('a PUT is answered with `pending` after two seconds, or after the wait it asks for', async t => {
  const agent = await startWithClock(t)
  for (const [n, [prefer, ms, told]] of ([
    [undefined, 2000, undefined],
    ['wait=5', 5000, 'wait=5'],
    ['wait=1', 1000, 'wait=1'],
    ['respond-async, wait=5', 5000, 'respond-async, wait=5'],
    ['wait=600', 60_000, 'wait=60'],
    ['wait=99999999999999999999', 60_000, 'wait=60'],
    ['wait=never', 2000, undefined],
    ['foo=bar; wait=5, Wait="7"', 7000, 'wait=7']
  ] as const).entries()) {
    const reply = agent.client.put(`/tasks/t${n}`, copyOf('s', `t${n}`), prefer === undefined ? {} : { prefer })
    await agent.waiting(1)
    agent.clock.pass(ms - 1)
    t.equal(await isAnswered(agent, reply), false, `${prefer}: not before ${ms} ms`)
    agent.clock.pass(1)
    t.match(await reply, { status: 202, task: { state: 'pending' }, headers: { 'retry-after': '1' } })
    t.equal((await reply).headers['preference-applied'], told)
  }
})

t.test('a PUT that prefers not to wait does not', async t => {
  const agent = await startWithClock(t)
  for (const prefer of ['respond-async', 'wait=0']) {
    const id = prefer.replace('=', '')
    t.match(await agent.client.put(`/tasks/${id}`, copyOf('s', id), { prefer }), { status: 202, task: { state: 'pending' }, headers: { 'preference-applied': prefer } })
  }
})

t.test('a new run is 202 even when it has already finished', async t => {
  const agent = await startAgent(t)
  agent.bodies.script = body => { void body.succeed() }
  const reply = await agent.client.put('/tasks/a', spec)
  t.match(reply, { status: 202, task: { state: 'succeeded' } })
  t.notOk('idempotent-replayed' in reply.headers || 'retry-after' in reply.headers)
  t.match(await agent.client.put('/tasks/a', spec), { status: 200, task: { state: 'succeeded' }, headers: { 'idempotent-replayed': 'true' } })
})

t.test('a task rejected within the wait answers with its own problem, to everybody who joined', async t => {
  const agent = await startWithClock(t)
  const replies = [agent.client.put('/tasks/a', spec), agent.client.put('/tasks/a', spec)]
  await agent.waiting(2)
  await (await agent.bodies.of('a')).fail(refusal)
  for (const reply of await Promise.all(replies)) {
    isProblem(t, reply, 'no-space')
    t.match(reply.json, { detail: refusal.message, bytesMissing: 5, task: { id: 'a', state: 'rejected', error: { code: 'no-space' } } })
    t.equal(reply.etag, agent.registry.find('a')?.etag)
  }
  t.match((await agent.client.get('/tasks/a')).task, { state: 'rejected', error: { code: 'no-space', status: 507 } }, 'later the refusal is read from the record')
})

t.test('a task that failed or was canceled within the wait is a task that was accepted for', async t => {
  const agent = await startWithClock(t)
  const failed = agent.client.put('/tasks/a', copyOf('s', 'a'))
  await agent.waiting(1)
  await (await agent.bodies.of('a')).fail(new AppError('storage-unresponsive', 'Who knows?', { changed: true }))
  t.match(await failed, { status: 202, task: { state: 'failed', error: { code: 'storage-unresponsive' } } })
  const canceled = agent.client.put('/tasks/b', copyOf('s', 'b'))
  await agent.waiting(1)
  await agent.client.delete('/tasks/b')
  t.match(await canceled, { status: 202, task: { state: 'canceling' } })
})

t.test('a GET with wait returns when the task has finished', async t => {
  const agent = await startWithClock(t)
  const run = await drive(agent, 'a', spec, 'pending')
  const reply = agent.client.get('/tasks/a', { prefer: 'wait=30' })
  await agent.waiting(1)
  const body = await agent.bodies.of('a')
  body.accept()
  body.progress({ bytesDone: 1 })
  t.equal(await isAnswered(agent, reply), false)
  await body.succeed()
  t.match(await reply, { status: 200, task: { state: 'succeeded', runId: run.runId }, headers: { 'preference-applied': 'wait=30', etag: run.etag, vary: 'Prefer' } })
  t.notOk('retry-after' in (await reply).headers)
  t.match(await agent.client.get('/tasks/a', { prefer: 'wait=30' }), { status: 200 }, 'and at once when it has finished before')
})

t.test('a GET with wait returns after its time with the task as it is', async t => {
  const agent = await startWithClock(t)
  await drive(agent, 'a', spec, 'running')
  for (const [prefer, ms, told] of [['wait=30', 30_000, 'wait=30'], ['wait=61', 60_000, 'wait=60'], ['wait=7, respond-async', 7000, 'wait=7']] as const) {
    const reply = agent.client.get('/tasks/a', { prefer })
    await agent.waiting(1)
    agent.clock.pass(ms - 1)
    t.equal(await isAnswered(agent, reply), false)
    agent.clock.pass(1)
    t.match(await reply, { status: 200, task: { state: 'running' }, headers: { 'preference-applied': told } })
  }
  t.match(await agent.client.get('/tasks/a', { prefer: 'wait=0' }), { status: 200, headers: { 'preference-applied': 'wait=0' } })
  t.notOk('preference-applied' in (await agent.client.get('/tasks/a', { prefer: 'respond-async' })).headers)
})

t.test('a long poll returns with the next transition, not with progress', async t => {
  const agent = await startWithClock(t)
  const run = await drive(agent, 'a', spec, 'pending')
  const body = await agent.bodies.of('a')
  const poll = async () => await agent.client.get('/tasks/a', { prefer: 'wait=30', 'if-none-match': run.etag })
  const first = poll()
  await agent.waiting(1)
  body.progress({ bytesDone: 1 })
  t.equal(await isAnswered(agent, first), false)
  body.accept()
  t.match(await first, { status: 200, task: { state: 'running', revision: 1 } })
  const second = poll()
  await agent.waiting(1)
  agent.registry.cancel(run)
  t.match(await second, { status: 200, task: { state: 'canceling', revision: 2 } })
  const third = poll()
  await agent.waiting(1)
  await body.yield()
  t.match(await third, { status: 200, task: { state: 'canceled', revision: 3 } })
})

t.test('a long poll with a tag of the past is answered at once', async t => {
  const agent = await startWithClock(t)
  const run = await drive(agent, 'a', spec, 'pending')
  const old = run.etag
  ;(await agent.bodies.of('a')).accept()
  for (const tag of [old, run.etag.replace(run.runId, 'other'), run.etag.replace(run.instance, 'other'), '"foreign"']) {
    t.match(await agent.client.get('/tasks/a', { prefer: 'wait=30', 'if-none-match': tag }), { status: 200, task: { state: 'running' } }, tag)
  }
})

t.test('a long poll that saw nothing is 304 only if not even the progress has changed', async t => {
  const agent = await startWithClock(t)
  const run = await drive(agent, 'a', spec, 'running')
  const tag = run.etag
  const poll = async (condition: string, meanwhile: () => void) => {
    const reply = agent.client.get('/tasks/a', { prefer: 'wait=30', 'if-none-match': condition })
    await agent.waiting(1)
    meanwhile()
    agent.clock.pass(30_000)
    return await reply
  }
  const same = await poll(tag, () => {})
  t.match(same, { status: 304, text: '', headers: { etag: tag, 'preference-applied': 'wait=30', vary: 'Prefer' } })
  t.match(await poll(`W/${tag}`, () => {}), { status: 304 }, 'behind a proxy that weakens tags it waits, too')
  t.match(await poll('*', () => {}), { status: 304 })
  const body = await agent.bodies.of('a')
  t.match(await poll(tag, () => { body.progress({ bytesDone: 1 }) }), { status: 200, task: { tick: 1, revision: 1 } })
})

t.test('a long poll on a finished task returns when the id gets its next run', async t => {
  const agent = await startWithClock(t)
  const run = await drive(agent, 'a', spec, 'succeeded')
  const reply = agent.client.get('/tasks/a', { prefer: 'wait=30', 'if-none-match': run.etag })
  await agent.waiting(1)
  const next = await agent.client.put('/tasks/a', spec, { 'if-match': run.etag, prefer: 'respond-async' })
  t.match(await reply, { status: 200, headers: { etag: next.etag }, task: { runId: next.task.runId, replaces: run.etag } })
})

t.test('a long poll on a finished task returns when the task is forgotten', async t => {
  const agent = await startWithClock(t, { retentionMs: 10_000 })
  for (const forget of ['expiry', 'DELETE'] as const) {
    const run = await drive(agent, 'a', spec, 'succeeded')
    const reply = agent.client.get('/tasks/a', { prefer: 'wait=30', 'if-none-match': run.etag })
    await agent.waiting(1)
    if (forget === 'expiry') agent.clock.pass(10_000)
    else t.equal((await agent.client.delete('/tasks/a', { 'if-match': run.etag })).status, 204)
    isProblem(t, await reply, 'task-not-found', forget)
    agent.bodies.all.length = 0
  }
})

t.test('who hangs up while waiting leaves nothing behind, and the task goes on', async t => {
  const agent = await startWithClock(t)
  const timers = agent.clock.waiting
  const hangUp = new AbortController()
  const put = agent.client.send('PUT', '/tasks/a', { body: spec, signal: hangUp.signal })
  await agent.bodies.of('a')
  const get = agent.client.send('GET', '/tasks/a', { headers: { prefer: 'wait=30' }, signal: hangUp.signal })
  await agent.waiting(2)
  hangUp.abort()
  await t.rejects(put, { name: 'AbortError' })
  await t.rejects(get, { name: 'AbortError' })
  await agent.waiting(0)
  t.equal(agent.clock.waiting, timers + 1, 'only the deadline of the accept is left')
  t.equal((await agent.bodies.of('a')).context.signal.aborted, false)
})

t.test('a thousand long polls are all answered when the agent stops, with the task as it is', async t => {
  const warnings: Error[] = []
  const warn = (warning: Error) => { warnings.push(warning) }
  process.on('warning', warn)
  t.teardown(() => { process.off('warning', warn) })
  const agent = await startWithClock(t)
  const run = await drive(agent, 'a', spec, 'running')
  const before = agent.clock.waiting
  const polls = Array.from({ length: 1000 }, async (_, n) => await agent.client.get('/tasks/a', { prefer: 'wait=60', ...n % 2 === 0 && { 'if-none-match': run.etag } }))
  await agent.waiting(1000)
  t.equal(agent.clock.waiting, before + 1000)
  await agent.stop()
  const replies = await Promise.all(polls)
  t.same(new Set(replies.map(({ status }) => status)), new Set([200, 304]))
  t.ok(replies.every(({ headers, status, text }) => headers.etag === run.etag && (status === 304 || JSON.parse(text).state === 'running')))
  t.equal(agent.clock.waiting, before, 'no timer is left')
  t.equal(getEventListeners(agent.registry.stopping, 'abort').length, 0, 'no listener is left')
  t.same(warnings, [])
})
