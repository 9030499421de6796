import { connect } from 'node:net'
import t from 'tap'
import type { TaskList } from '../../src/api/task.ts'
import { AppError } from '../../src/errors.ts'
import { Clock } from '../helpers/clock.ts'
import { copyOf, deletionOf, startAgent, until, type TestAgent } from '../helpers/http-agent.ts'
import { isProblem } from '../helpers/http-client.ts'
import { drive, refusal } from '../helpers/http-states.ts'

t.setTimeout(300_000)

const spec = copyOf('a.raw', 'b.raw')
const plain = { kind: 'storage.copyImage', source: { domain: 'local', image: 'a.raw' }, target: { domain: 'local', image: 'b.raw' } }

t.test('fifty PUTs of one command at the same time start it once, and all name the same run', async t => {
  const { client, bodies } = await startAgent(t)
  const replies = Promise.all(Array.from({ length: 50 }, async () => await client.put('/tasks/a', spec)))
  ;(await bodies.of('a')).accept()
  const other = await client.put('/tasks/a', copyOf('a.raw', 'c.raw'))
  isProblem(t, other, 'task-id-conflict')
  t.same(new Set((await replies).map(({ status }) => status)), new Set([202]))
  t.equal(new Set((await replies).map(({ task }) => task.runId)).size, 1)
  t.equal((await replies).filter(({ headers }) => headers['idempotent-replayed'] === 'true').length, 49)
  t.equal(bodies.all.length, 1)
})

t.test('a default that is left out is the same command as the default written out, in any order', async t => {
  const { client, bodies } = await startAgent(t)
  const first = await client.put('/tasks/a', plain, { prefer: 'respond-async' })
  t.match(first.task, { spec: { verify: false } }, 'the defaults are in what was accepted')
  for (const same of [
    { ...plain, verify: false },
    { verify: false, target: { image: 'b.raw', domain: 'local' }, source: plain.source, kind: plain.kind }
  ]) {
    const reply = await client.put('/tasks/a', same, { prefer: 'respond-async' })
    t.match(reply, { status: 202, headers: { 'idempotent-replayed': 'true' }, task: { runId: first.task.runId, specDigest: first.task.specDigest } })
  }
  isProblem(t, await client.put('/tasks/a', { ...plain, verify: true }), 'task-id-conflict')
  t.equal(bodies.all.length, 1)
})

t.test('tuning changes neither the command nor its digest', async t => {
  const agent = await startAgent(t)
  const run = await drive(agent, 'a', spec, 'running')
  const { etag } = run
  const reply = await agent.client.patch('/tasks/a', { bandwidth: 5 })
  t.match(reply.task, { spec: { bandwidth: undefined }, specDigest: run.specDigest })
  t.equal(reply.etag, etag)
  t.match(await agent.client.put('/tasks/a', spec), { status: 202, headers: { 'idempotent-replayed': 'true' } })
})

t.test('of many who reuse one result one wins, and the others see whose run it is now', async t => {
  const agent = await startAgent(t)
  const first = await drive(agent, 'a', spec, 'succeeded')
  const replies = await Promise.all(Array.from({ length: 20 }, async () => await agent.client.put('/tasks/a', spec, { 'if-match': first.etag, prefer: 'respond-async' })))
  const won = replies.filter(({ status }) => status === 202)
  t.equal(won.length, 1)
  for (const lost of replies.filter(({ status }) => status !== 202)) {
    isProblem(t, lost, 'precondition-failed')
    t.match(lost.problem['task'], { runId: won[0]?.task.runId, replaces: first.etag }, 'a caller whose reply was lost recognises its own run')
  }
  t.equal(agent.bodies.all.length, 2)
})

t.test('a reused id may carry another command', async t => {
  const agent = await startAgent(t)
  const first = await drive(agent, 'a', spec, 'failed')
  const reply = await agent.client.put('/tasks/a', deletionOf('x'), { 'if-match': '*', prefer: 'respond-async' })
  t.match(reply, { status: 202, task: { kind: 'storage.deleteImage', replaces: first.etag, revision: 0 } })
})

t.test('what is wrong with the request comes before preconditions, these before the table, then the image, then the limit', async t => {
  const agent = await startAgent(t, { maxActive: 1 })
  await drive(agent, 'a', spec, 'running')
  const headers = { 'agent-instance': 'other', 'if-match': '"x"' }
  isProblem(t, await agent.client.put('/tasks/a', { ...plain, nonsense: 1 }, headers), 'bad-request')
  isProblem(t, await agent.client.put('/tasks/a', spec, { ...headers, 'if-match': 'x' }), 'precondition-malformed')
  isProblem(t, await agent.client.put('/tasks/a', copyOf('x', 'y'), headers), 'instance-changed')
  isProblem(t, await agent.client.put('/tasks/a', copyOf('x', 'y'), { 'if-match': '"x"' }), 'precondition-failed')
  isProblem(t, await agent.client.put('/tasks/a', copyOf('x', 'b.raw')), 'task-id-conflict')
  isProblem(t, await agent.client.put('/tasks/b', copyOf('x', 'b.raw')), 'resource-busy')
  isProblem(t, await agent.client.put('/tasks/b', copyOf('x', 'y')), 'agent-busy')
})

t.test('an image in use names the task that uses it and when to ask again, not as the task that was asked for', async t => {
  const agent = await startAgent(t)
  await drive(agent, 'holder', copyOf('s', 'x'), 'running')
  ;(await agent.bodies.of('holder')).progress({ etaSeconds: 200 })
  for (const [path, body] of [['b', deletionOf('s')], ['b', copyOf('other', 'x')], ['b', deletionOf('x')], ['b?dryRun=true', deletionOf('x')]] as const) {
    const reply = await agent.client.put(`/tasks/${path}`, body)
    isProblem(t, reply, 'resource-busy')
    t.match(reply, { headers: { 'retry-after': '20', etag: undefined }, json: { holder: 'holder', task: undefined, retryAfter: undefined, detail: /holder/ } })
  }
  isProblem(t, await agent.client.get('/tasks/b'), 'task-not-found')
})

t.test('at its limits the agent says when to come back', async t => {
  const agent = await startAgent(t, { maxActive: 1 })
  await drive(agent, 'a', spec, 'running')
  for (const path of ['/tasks/b', '/tasks/b?dryRun=true']) {
    const reply = await agent.client.put(path, copyOf('x', 'y'))
    isProblem(t, reply, 'agent-busy')
    t.match(reply.headers['retry-after'], /^\d+$/)
  }
})

t.test('a refusal in a dry run is the refusal itself, and nothing is recorded', async t => {
  const agent = await startAgent(t, {
    definition: {
      check: spec => { if ('bandwidth' in spec && spec.bandwidth === 13) throw new AppError('format-unknown', 'No.') },
      preview: async spec => {
        if (spec.kind === 'storage.deleteImage') throw new AppError('image-not-found', 'No such image.')
        if (spec.kind === 'storage.mendImage') throw refusal
        return { bytesTotal: 5, clone: false }
      }
    }
  })
  const { client, registry, bodies, told } = agent
  const dry = async (body: unknown, headers = {}) => await client.put('/tasks/a?dryRun=true', body, headers)
  t.match(await dry(spec), { status: 200, json: { outcome: 'created', plan: { bytesTotal: 5, clone: false } } })
  isProblem(t, await dry(deletionOf('x')), 'image-not-found')
  isProblem(t, await dry({ kind: 'storage.mendImage', domain: 'local', image: 'x' }), 'no-space')
  isProblem(t, await dry(copyOf('s', 'x', { bandwidth: 13 })), 'format-unknown')
  isProblem(t, await dry({ ...plain, nonsense: 1 }), 'bad-request')
  isProblem(t, await dry(spec, { 'if-match': '*' }), 'precondition-failed')
  isProblem(t, await dry(spec, { 'agent-instance': 'other' }), 'instance-changed')
  isProblem(t, await client.put('/tasks/a?dryRun=perhaps', spec), 'bad-request')
  t.equal(registry.find('a'), undefined)
  t.equal(bodies.all.length + told.length, 0)
  const run = await drive(agent, 'a', spec, 'running')
  t.match(await dry(spec), { status: 200, json: { outcome: 'joined', task: { runId: run.runId } } })
  isProblem(t, await dry(deletionOf('x')), 'task-id-conflict')
})

t.test('a client whose connection is cut in the middle of a PUT tries again and ends with one execution', async t => {
  const { client, bodies, port } = await startAgent(t)
  const text = JSON.stringify(spec)
  const bytes = `PUT /tasks/a HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: ${text.length}\r\n\r\n${text}`
  // cut after the request line, in the headers, in the body, before the last byte, and when everything was sent
  for (const length of [10, 60, bytes.length - 50, bytes.length - 1, bytes.length]) {
    const socket = connect(port, '127.0.0.1')
    const sent = new Promise(resolve => { socket.once('close', resolve) })
    socket.on('error', () => {})
    socket.end(bytes.slice(0, length))
    if (length === bytes.length) await bodies.of('a')
    else socket.resume()
    socket.destroySoon()
    await sent
  }
  const reply = client.put('/tasks/a', spec)
  ;(await bodies.of('a')).accept()
  t.match(await reply, { status: 202, headers: { 'idempotent-replayed': 'true' }, task: { state: 'running' } })
  t.equal(bodies.all.length, 1)
  await (await bodies.of('a')).succeed()
  t.match(await client.put('/tasks/a', spec), { status: 200, task: { state: 'succeeded', runId: (await reply).task.runId } })
  t.equal(bodies.all.length, 1)
})

t.test('an id has 255 characters at most, and nothing that a path could mistake', async t => {
  const { client } = await startAgent(t)
  let n = 0
  const put = async (id: string) => await client.put(`/tasks/${id}`, deletionOf(`x${++n}`), { prefer: 'respond-async' })
  for (const id of ['', '%2F', 'a%2Fb', '%00', 'a%00', '.', '..', '%2E%2E', '-a', '_a', '__proto__', 'a%20b', 'a%25', '%C3%A4', 'a'.repeat(256), 'a;b', 'a*', 'a%0A', 'a%0D%0A']) {
    const reply = await put(id)
    // a path of dots is another path
    isProblem(t, reply, reply.status === 404 ? 'not-found' : 'bad-request', JSON.stringify(id))
  }
  for (const id of ['a'.repeat(255), 'constructor', 'toString', 'a.b_c~d:e@f=g+h,i-j', '0', '%62'.repeat(255)]) {
    const reply = await put(id)
    t.equal(reply.status, 202, id)
    t.equal(reply.task.id, decodeURIComponent(id))
    const { location = '' } = reply.headers
    t.match(await client.get(location), { status: 200, task: { id: decodeURIComponent(id) } }, 'Location leads to it')
  }
})

async function listAll ({ client }: TestAgent, query: string): Promise<TaskList[]> {
  const pages: TaskList[] = []
  let cursor: string | undefined
  do {
    const reply = await client.get(`/tasks?${query}${cursor === undefined ? '' : `&cursor=${cursor}`}`)
    if (reply.status !== 200) throw new Error(reply.text)
    pages.push(reply.list)
    cursor = reply.list.next
  } while (cursor !== undefined)
  return pages
}

t.test('the list filters by state, kind and prefix, alone, repeated and in lists', async t => {
  const agent = await startAgent(t)
  await drive(agent, 'n-1', copyOf('s', '1'), 'running')
  await drive(agent, 'n-2', copyOf('s', '2'), 'succeeded')
  await drive(agent, 'm-3', { kind: 'storage.mendImage', domain: 'local', image: '3' }, 'rejected')
  await drive(agent, 'm-4', { kind: 'storage.mendImage', domain: 'local', image: '4' }, 'pending')
  await drive(agent, 'd-5', deletionOf('5'), 'running')
  for (const [query, ids] of [
    ['', ['n-1', 'n-2', 'm-3', 'm-4', 'd-5']],
    ['state=running', ['n-1', 'd-5']],
    ['state=running,pending', ['n-1', 'm-4', 'd-5']],
    ['state=running&state=rejected', ['n-1', 'm-3', 'd-5']],
    ['state=active', ['n-1', 'm-4', 'd-5']],
    ['state=finished', ['n-2', 'm-3']],
    ['state=finished,active', ['n-1', 'n-2', 'm-3', 'm-4', 'd-5']],
    ['kind=storage.mendImage', ['m-3', 'm-4']],
    ['kind=storage.mendImage&kind=storage.deleteImage', ['m-3', 'm-4', 'd-5']],
    ['kind=storage.mendImage,storage.deleteImage', ['m-3', 'm-4', 'd-5']],
    ['idPrefix=n-', ['n-1', 'n-2']],
    ['idPrefix=n-1', ['n-1']],
    ['idPrefix=zz', []],
    ['state=active&kind=storage.copyImage&idPrefix=n', ['n-1']]
  ] as const) {
    t.same((await listAll(agent, query)).flatMap(({ items }) => items.map(({ id }) => id)), ids, query)
    t.same((await listAll(agent, `limit=1&${query}`)).flatMap(({ items }) => items.map(({ id }) => id)), ids, `${query}, one by one`)
  }
})

t.test('a list that is asked for wrongly says what is wrong', async t => {
  const { client } = await startAgent(t)
  for (const [query, detail] of [
    ['state=done', /"done".*pending, running/],
    ['state=', /state/],
    ['kind=storage.nonsense', /kind.*storage.copyImage/],
    ['limit=0', /limit/], ['limit=1001', /limit/], ['limit=x', /limit/], ['limit=1.5', /limit/], ['limit=1&limit=2', /limit/],
    ['cursor=x', /cursor/], ['cursor=', /cursor/],
    ['page=2', /"page"/],
    ['__proto__=2', /"__proto__"/], ['constructor=2', /"constructor"/]
  ] as const) {
    const reply = await client.get(`/tasks?${query}`)
    isProblem(t, reply, 'bad-request', query)
    t.match(reply.problem.detail, detail)
  }
})

t.test('every page of a list repeats where the first one stood among the events', async t => {
  const agent = await startAgent(t)
  for (const id of ['a', 'b', 'c']) await drive(agent, id, copyOf('s', id), 'running')
  const first = (await agent.client.get('/tasks?limit=2')).list
  await drive(agent, 'd', copyOf('s', 'd'), 'running')
  const second = (await agent.client.get(`/tasks?limit=2&cursor=${first.next}`)).list
  t.same(second.items.map(({ id }) => id), ['c', 'd'])
  t.equal(second.lastEventId, first.lastEventId)
  t.not((await agent.client.get('/tasks')).list.lastEventId, first.lastEventId)
})

t.test('the cursor of an agent that was restarted is gone', async t => {
  const before = await startAgent(t, { instance: 'aaa' })
  for (const id of ['a', 'b']) await drive(before, id, copyOf('s', id), 'running')
  const { next } = (await before.client.get('/tasks?limit=1')).list
  const after = await startAgent(t, { instance: 'bbb' })
  const reply = await after.client.get(`/tasks?limit=1&cursor=${next}`)
  isProblem(t, reply, 'cursor-gone')
  t.match(reply.json, { instance: 'bbb', detail: /Begin the list again/ })
})

t.test('a hundred thousand retained tasks are listed page by page while other requests are served', async t => {
  const agent = await startAgent(t, { maxActive: 200_000, maxRetained: 200_000, observer: { transition: () => {}, progress: () => {}, forgotten: () => {} } })
  agent.bodies.script = body => { void body.succeed(); agent.bodies.all.length = 0 }
  const count = 100_000
  for (let n = 0; n < count; n++) {
    agent.registry.claim(`t${n}`, { kind: 'storage.mendImage', domain: 'local', image: `i${n}` })
    if (n % 1000 === 0) await new Promise(resolve => { setImmediate(resolve) })
  }
  await until(() => agent.registry.active === 0)
  const listing = { done: false }
  const seen = new Set<string>()
  const pages = listAll(agent, 'limit=1000').then(pages => {
    listing.done = true
    for (const { items } of pages) for (const { id } of items) seen.add(id)
    return pages.length
  })
  let others = 0
  while (!listing.done) {
    const { status } = await agent.client.get('/tasks/t0')
    if (status !== 200) throw new Error(`the task cannot be read: ${status}`)
    others++
  }
  t.equal(await pages, 100)
  t.equal(seen.size, count)
  t.ok(others >= 20, `${others} other requests were served meanwhile`)
  t.equal((await listAll(agent, 'idPrefix=t9999')).flatMap(({ items }) => items).length, 11)
})

t.test('what has expired is gone, and its id is free for another command', async t => {
  const clock = new Clock(t, { atLeastMs: 1000 })
  const agent = await startAgent(t, { retentionMs: 900_000 })
  const run = await drive(agent, 'a', spec, 'succeeded')
  t.equal((await agent.client.get('/tasks/a')).task.expiresAt, new Date(clock.wall + 900_000).toISOString())
  clock.pass(899_999)
  t.equal((await agent.client.get('/tasks/a')).status, 200)
  clock.pass(1)
  isProblem(t, await agent.client.get('/tasks/a'), 'task-not-found')
  isProblem(t, await agent.client.put('/tasks/a', spec, { 'if-match': run.etag }), 'precondition-failed')
  t.equal((await agent.client.put('/tasks/a', deletionOf('x'), { prefer: 'respond-async' })).status, 202)
})

t.test('GET says the same of a task whichever way its answer is made, and nothing of what has changed since', async t => {
  for (const server of [{}, { allowedOrigins: ['https://engine.example'] }]) {
    const { client, bodies } = await startAgent(t, { server })
    const put = await client.put('/tasks/a', spec, { prefer: 'respond-async' })
    const same = async () => {
      const [plain, again, conditional, waited, head] = await Promise.all([
        client.get('/tasks/a'),
        client.get('/tasks/a'),
        client.get('/tasks/a', { 'if-none-match': '"another"' }),
        client.get('/tasks/a', { prefer: 'wait=0' }),
        client.send('HEAD', '/tasks/a')
      ])
      const said = ({ status, headers: { date: _, 'preference-applied': __, ...headers } }: typeof plain) => ({ status, headers })
      for (const other of [again, conditional, waited]) t.same(said(other), said(plain))
      for (const other of [again, conditional, waited]) t.equal(other.text, plain.text)
      t.same(said(head), said(plain))
      t.equal(head.text, '')
      t.equal(plain.headers['content-length'], String(Buffer.byteLength(plain.text)))
      t.match(plain.headers, { 'content-type': 'application/json; charset=utf-8', 'cache-control': 'private, no-cache', 'agent-instance': put.headers['agent-instance'], 'x-content-type-options': 'nosniff' })
      t.equal(plain.headers.vary, 'allowedOrigins' in server ? 'Origin, Prefer' : 'Prefer')
      return plain
    }
    t.equal((await same()).etag, put.etag)
    const body = await bodies.of('a')
    body.accept()
    const running = await same()
    t.match(running.task, { state: 'running' })
    body.progress({ bytesTotal: 1000, bytesDone: 10, etaSeconds: 200 })
    await body.succeed()
    const ended = await same()
    t.match(ended.task, { state: 'succeeded' })
    t.equal(ended.headers['retry-after'], undefined)
    t.not(ended.etag, running.etag)
    t.match(await client.get('/tasks/a', { 'if-none-match': ended.etag }), { status: 304, text: '', etag: ended.etag })
  }
})
