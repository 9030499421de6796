import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { once } from 'node:events'
import t from 'tap'
import type { Test } from 'tap'
import { Client } from '../../src/client/client.ts'

// What a client makes of answers, one at a time, that an agent gives only now and then.

interface Answer { status: number, headers?: Record<string, string>, body?: object }

/** A server that gives these answers in turn, the last one again and again, and a client of it. */
async function answering (t: Test, answers: readonly [Answer, ...Answer[]], path = '') {
  const seen: string[] = []
  const tags: Array<string | undefined> = []
  const server = createServer((request: IncomingMessage, response) => {
    const { status, headers = {}, body } = answers[Math.min(seen.length, answers.length - 1)] ?? answers[0]
    seen.push(`${request.method} ${request.url}`)
    tags.push(request.headers['if-match'])
    const type = status >= 400 ? 'application/problem+json' : 'application/json'
    request.resume()
    response.writeHead(status, { 'content-type': type, ...headers }).end(JSON.stringify(body ?? {}))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const client = new Client({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}${path}`, retryMs: 10_000 })
  t.teardown(async () => {
    await client.close()
    server.close()
  })
  return { client, seen, tags }
}

const agent = { name: 'vdsm-tasks', hostId: 'host1', instance: 'i', kinds: [], limits: {} }
const spec = { kind: 'storage.deleteImage', domain: 'local', image: 'a' } as const
const task = (more: object = {}) => ({ id: 'a', kind: spec.kind, spec, runId: 'r1', instance: 'i', revision: 3, tick: 0, state: 'succeeded', ...more })
const problem = (code: string, more: object = {}) => ({ type: 'about:blank', title: '', status: 412, code, detail: '', ...more })

t.test('an agent that is busy, or answers too many requests, is asked again', async t => {
  for (const status of [429, 503]) {
    const { client, seen } = await answering(t, [{ status, headers: { 'retry-after': '1' } }, { status: 200, body: agent }])
    t.match(await client.agent(), { hostId: 'host1' })
    t.equal(seen.length, 2, String(status))
  }
})

t.test('any other refusal is told at once', async t => {
  const { client, seen } = await answering(t, [{ status: 409, body: problem('resource-busy', { status: 409 }) }])
  await t.rejects(client.putTask('a', spec), { code: 'resource-busy', status: 409 })
  t.equal(seen.length, 1)
})

t.test('the path of a proxy stays in front', async t => {
  const { client, seen } = await answering(t, [{ status: 200, body: agent }], '/hosts/7/')
  await client.agent()
  t.strictSame(seen, ['GET /hosts/7/agent'])
})

t.test('a 412 is one\'s own run only if that took over the very run that was named', async t => {
  const own = task({ runId: 'r2', revision: 0, replaces: '"i.r1.3.0"' })
  const first = await answering(t, [{ status: 412, body: problem('precondition-failed', { task: own }) }])
  t.match(await first.client.putTask('a', spec, { ifMatch: '"i.r1.3.0"' }), { replayed: true, task: { runId: 'r2' }, etag: '"i.r2.0.0"' })
  const other = await answering(t, [{ status: 412, body: problem('precondition-failed', { task: { ...own, replaces: '"i.r0.1.0"' } }) }])
  await t.rejects(other.client.putTask('a', spec, { ifMatch: '"i.r1.3.0"' }), { code: 'precondition-failed' })
  const unclaimed = await answering(t, [{ status: 412, body: problem('precondition-failed', { task: task({ runId: 'r3' }) }) }])
  await t.rejects(unclaimed.client.putTask('a', spec, { ifMatch: '"i.r1.3.0"' }), { code: 'precondition-failed' })
})

t.test('whatever run has the id is named when it is taken over, so that a PUT that is sent again does not take over itself', async t => {
  const { client, tags } = await answering(t, [{ status: 200, headers: { etag: '"i.r1.3.0"' }, body: task() }, { status: 202, body: task({ runId: 'r2' }) }])
  await client.putTask('a', spec, { ifMatch: '*' })
  t.strictSame(tags, [undefined, '"i.r1.3.0"'])
})

t.test('a wait goes on until the task has ended, a list until its last page', async t => {
  const waiting = await answering(t, [{ status: 200, body: task({ state: 'running' }) }, { status: 200, body: task({ endedAt: '2026-01-01T00:00:00Z' }) }])
  t.match(await waiting.client.waitForTask('a'), { state: 'succeeded' })
  t.equal(waiting.seen.length, 2)
  const paged = await answering(t, [{ status: 200, body: { items: [{ image: 'a' }], next: 'n' } }, { status: 200, body: { items: [{ image: 'b' }] } }])
  const images: string[] = []
  for await (const { image } of paged.client.images('local')) images.push(image)
  t.strictSame(images, ['a', 'b'])
})
