import { createServer as createHttpServer } from 'node:http'
import { createServer, connect } from 'node:net'
import { once } from 'node:events'
import t, { type Test } from 'tap'
import { Client } from '../../src/client/client.ts'
import { UnreachableError } from '../../src/client/errors.ts'
import type { AgentEvent, TaskSpec } from '../../src/client/types.ts'
import { freePort, makeDirectory, startAgent } from '../helpers/built-agent.ts'

t.setTimeout(300_000)

const copyTo = (image: string, more: object = {}): TaskSpec =>
  ({ kind: 'storage.copyImage', source: { domain: 'local', image: 'sample.raw' }, target: { domain: 'local', image }, ...more })

function clientOf (t: Test, url: string, retryMs = 30_000): Client {
  const client = new Client({ url, retryMs })
  t.teardown(async () => { await client.close() })
  return client
}

t.test('a copy is put, waited for, listed and found on the storage', async t => {
  const agent = await startAgent(t, await makeDirectory(t))
  const client = clientOf(t, agent.address)
  const { task, replayed } = await client.putTask('one', copyTo('one.qcow2'), { waitSeconds: 30 })
  t.match({ task, replayed }, { task: { id: 'one', state: /running|succeeded/ }, replayed: false })
  const done = await client.waitForTask('one')
  t.match(done, { state: 'succeeded', runId: task.runId })
  t.match(await client.putTask('one', copyTo('one.qcow2')), { replayed: true, task: { runId: task.runId } })
  t.match(await client.imageStatus('local', 'one.qcow2'), { state: 'ok', format: 'qcow2' })
  t.match(await client.copies('local', { taskId: 'one' }), [{ state: 'done', image: 'one.qcow2' }])
  t.same(await client.fixes('local'), [])
  t.match(await client.listTasks({ state: ['finished'] }), { items: [{ id: 'one' }] })
  t.match((await client.domains())[0], { domain: 'local', state: 'available' })
  const names: string[] = []
  for await (const { image } of client.images('local')) names.push(image)
  t.same(names, ['one.qcow2', 'sample.raw'])
  t.match(await client.agent(), { name: 'vdsm-tasks', kinds: ['storage.copyImage'] })
})

t.test('a running copy is throttled, tuned and canceled, and refusals are told by their code', async t => {
  const agent = await startAgent(t, await makeDirectory(t))
  const client = clientOf(t, agent.address)
  const { task } = await client.putTask('slow', copyTo('slow.raw', { bandwidth: 1024 * 1024 }), { waitSeconds: 30 })
  await t.rejects(client.putTask('slow', copyTo('other.raw')), { name: 'ProblemError', code: 'task-id-conflict', status: 409 })
  await client.tuneTask('slow', 2 * 1024 * 1024)
  await t.rejects(client.cancelTask('slow', { runId: 'another' }), { code: 'precondition-failed' })
  await client.cancelTask('slow', { runId: task.runId })
  t.match(await client.waitForTask('slow'), { state: 'canceled' })
  t.match(await client.imageStatus('local', 'slow.raw'), { state: 'interrupted', fixes: [{ action: 'mend' }, { action: 'clean' }] })
  const { etag } = await client.getTask('slow')
  const again = await client.putTask('slow', { kind: 'storage.deleteImage', domain: 'local', image: 'slow.raw' }, { ifMatch: etag })
  t.equal(again.task.replaces, etag)
  await t.rejects(client.getTask('unknown'), { name: 'ProblemError', code: 'task-not-found', status: 404 })
})

t.test('a PUT whose connection is cut is sent again and executed once', async t => {
  const agent = await startAgent(t, await makeDirectory(t))
  const target = new URL(agent.address)
  let cuts = 1
  // a proxy that lets a PUT through and cuts the line before its answer comes back
  const proxy = createServer(client => {
    const upstream = connect(Number(target.port), target.hostname)
    let method = ''
    client.on('data', (bytes: Buffer) => { method = /^[A-Z]+ /.exec(bytes.toString('latin1'))?.[0] ?? method }).pipe(upstream)
    upstream.on('data', (bytes: Buffer) => {
      if (method !== 'PUT ' || cuts === 0) client.write(bytes)
      else {
        cuts--
        client.destroy()
        upstream.destroy()
      }
    })
    for (const socket of [client, upstream]) socket.on('error', () => { client.destroy(); upstream.destroy() })
  }).listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  t.teardown(() => proxy.close())
  const address = proxy.address()
  const port = address !== null && typeof address === 'object' ? address.port : 0
  const client = clientOf(t, `http://127.0.0.1:${port}`)
  const { task, replayed } = await client.putTask('cut', copyTo('cut.raw'))
  t.equal(cuts, 0, 'the first connection was cut')
  t.ok(replayed, 'the second PUT joined')
  t.match(await client.waitForTask('cut'), { state: 'succeeded', runId: task.runId })

  const { etag } = await client.getTask('cut')
  for (const ifMatch of ['*', etag]) {
    const before = await client.getTask('cut')
    cuts = 1
    const image = ifMatch === '*' ? 'reused.raw' : 'reused-again.raw'
    const create = client.putTask('cut', { kind: 'storage.createImage', domain: 'local', image, virtualSize: 512 }, { ifMatch: ifMatch === '*' ? '*' : before.etag, waitSeconds: 10 })
    t.match(await create, { replayed: true, task: { replaces: before.etag } }, `the id is used again once (${ifMatch})`)
    t.equal(cuts, 0)
    t.match(await client.waitForTask('cut'), { state: 'succeeded' })
  }
})

t.test('the same PUT after a restart of the agent ends with one finished copy', async t => {
  const directory = await makeDirectory(t)
  const port = await freePort()
  const config = { listen: { port } }
  const first = await startAgent(t, directory, config)
  const client = clientOf(t, first.address)
  await client.putTask('again', copyTo('again.qcow2', { bandwidth: 4 * 1024 * 1024 }), { waitSeconds: 30 })
  await first.kill()
  const put = client.putTask('again', copyTo('again.qcow2'))
  await startAgent(t, directory, config)
  const { task, replayed } = await put
  t.equal(replayed, false, 'the new instance knew nothing of it')
  t.match(await client.waitForTask('again'), { runId: task.runId, state: 'succeeded', result: { epoch: 2 } })
  await client.putTask('once-more', copyTo('again.qcow2'))
  t.match(await client.waitForTask('once-more'), { result: { alreadyDone: true, bytesMoved: 0 } })
})

t.test('events go on across a restart of the agent, and the reset is told', async t => {
  const directory = await makeDirectory(t)
  const config = { listen: { port: await freePort() } }
  const first = await startAgent(t, directory, config)
  const client = clientOf(t, first.address)
  const ended = new AbortController()
  const seen: AgentEvent[] = []
  const following = (async () => {
    for await (const event of client.events({ signal: ended.signal })) {
      seen.push(event)
      if (event.event === 'task' && event.data.id === 'second' && event.data.state === 'succeeded') ended.abort()
      if (event.event === 'synced' && seen.filter(({ event }) => event === 'synced').length === 1) await client.putTask('first', copyTo('first.raw'))
      if (event.event === 'task' && event.data.id === 'first' && event.data.state === 'succeeded') {
        await first.kill()
        await startAgent(t, directory, config)
        await client.putTask('second', copyTo('second.raw'))
      }
    }
  })()
  await following
  const words = seen.map(event => event.event === 'task' ? `${event.data.id} ${event.data.state}` : event.event)
  t.equal(words[0], 'synced')
  t.same(words.filter(word => word.startsWith('first')), ['first pending', 'first running', 'first succeeded'])
  t.ok(words.indexOf('reset') > words.indexOf('first succeeded'), 'the new instance says reset')
  t.same(words.filter(word => word.startsWith('second')).slice(-1), ['second succeeded'])
})

t.test('an agent that is not there is told as such', async t => {
  const client = clientOf(t, `http://127.0.0.1:${await freePort()}`, 0)
  await t.rejects(client.agent(), UnreachableError)
})

t.test('who is told to come again at a time of day, or at once, does not ask as fast as he can', async t => {
  for (const retryAfter of ['Wed, 21 Oct 2065 07:28:00 GMT', '0']) {
    let asked = 0
    const proxy = createHttpServer((_request, response) => {
      asked++
      response.writeHead(503, { 'retry-after': retryAfter }).end()
    }).listen(0, '127.0.0.1')
    await once(proxy, 'listening')
    t.teardown(() => proxy.close())
    const address = proxy.address()
    const client = clientOf(t, `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}`, 1000)
    await t.rejects(client.agent(), { name: 'ProblemError', status: 503 })
    t.ok(asked < 10, `${asked} times in a second`)
  }
})
