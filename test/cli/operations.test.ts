import { once } from 'node:events'
import { createServer } from 'node:http'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import type { Operation } from '../../src/client/types.ts'
import { runCommand } from '../helpers/command-line.ts'

const numbers = { files: 12, bytes: 2 ** 30, scanned: 20, failures: 1, skipped: 0, runtimeSeconds: 60 }
const operation: Operation = {
  operationId: 'a25688b9-2795-412f-b56b-667b23486dc8',
  kind: 'rebalance',
  volume: 'images',
  state: 'running',
  nodes: [{ host: 'node1', hostUuid: 'u', state: 'running', ...numbers }],
  totals: numbers,
  rate: { bytesPerSecond: 2 ** 20, filesPerSecond: 1, basis: 'recent', seconds: 10 },
  estimate: { bytesLeft: 2 ** 30, secondsLeft: 125, basis: 'even-fill-of-bricks', usageAt: '' },
  complete: false,
  missing: ['node2'],
  observedAt: ''
}
const removal: Operation = { ...operation, kind: 'remove-brick', volume: 'other', state: 'completed', missing: [], nodes: [] }

/** Answers as an agent in a Gluster cluster does; the commands that it got. A real cluster takes minutes, and root. */
async function startCluster (t: Test): Promise<{ env: NodeJS.ProcessEnv, specs: object[] }> {
  const specs: object[] = []
  const server = createServer((request, response) => {
    response.setHeader('content-type', 'application/json')
    void text(request).then(body => {
      if (request.method === 'GET') {
        response.end(JSON.stringify({ items: [operation, removal], unknown: [{ volume: 'locked', code: 'gluster-busy', detail: 'It is locked.' }], observedAt: '' }))
        return
      }
      const spec = JSON.parse(body)
      specs.push(spec)
      response.statusCode = 202
      response.end(JSON.stringify({ id: 'x', runId: 'r', kind: spec.kind, spec, state: 'succeeded', endedAt: '2026-01-01T00:00:00Z', result: { operationId: operation.operationId }, revision: 2, tick: 0, instance: 'i' }))
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => { server.closeAllConnections(); server.close() })
  const address = server.address()
  return { env: { VDSM_TASKS_URL: `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}` }, specs }
}

t.test('operations are told as a table, with what the hosts do not tell on standard error', async t => {
  const { env } = await startCluster(t)
  const all = await runCommand(t, ['operations'], { env })
  t.match(all, { status: 0, stderr: 'locked: It is locked.\nimages: these hosts do not tell: node2\nimages: node1 running, 1 failures\n' })
  t.match(all.stdout, /^VOLUME .*\nimages {2}rebalance {5}running {4}12 files, 1 GiB {2}1 {9}1 MiB\/s {2}2 min 5 s {2}a25688b9-\S+\nother {3}remove-brick {2}completed .*\n$/)
  t.match(await runCommand(t, ['rebalance', 'images'], { env }), { status: 0, stdout: /\nimages [^\n]*\n$/ })
  t.match(await runCommand(t, ['remove-brick', 'images', 'status'], { env }), { status: 0, stdout: '', stderr: 'There are no such operations.\n' })
  t.equal(JSON.parse((await runCommand(t, ['remove-brick', 'other', 'status', '--json'], { env })).stdout).items.length, 1)
})

t.test('every verb and option goes into the command', async t => {
  const { env, specs } = await startCluster(t)
  const brick = 'node3:/bricks/1'
  for (const [args, spec] of [
    [['rebalance', 'images', 'start', '--mode', 'fix-layout', '--force'], { kind: 'gluster.startVolumeRebalance', volume: 'images', mode: 'fix-layout', force: true }],
    [['rebalance', 'images', 'start', '--restart', '--throttle', 'lazy'], { kind: 'gluster.startVolumeRebalance', volume: 'images', restart: true, throttle: 'lazy' }],
    [['replace-brick', 'images', brick, 'node4:/b', '--force'], { kind: 'gluster.replaceBrick', volume: 'images', brick, by: 'node4:/b', force: true }],
    [['reset-brick', 'images', 'commit', brick], { kind: 'gluster.resetBrick', volume: 'images', brick, step: 'commit' }],
    [['rebalance', 'images', 'stop'], { kind: 'gluster.stopVolumeRebalance', volume: 'images' }],
    [['remove-brick', 'images', 'start', brick, '--replica', '2'], { kind: 'gluster.startRemoveBrick', volume: 'images', bricks: [brick], replica: 2 }],
    [['remove-brick', 'images', 'stop', brick], { kind: 'gluster.stopRemoveBrick', volume: 'images', bricks: [brick] }],
    [['remove-brick', 'images', 'commit', brick, '--force'], { kind: 'gluster.commitRemoveBrick', volume: 'images', bricks: [brick], force: true }]
  ] as const) {
    t.match(await runCommand(t, [...args, '--id', 'x'], { env }), { status: 0, stdout: `done  x  operation ${operation.operationId} is registered\n` })
    t.same(specs.at(-1), spec)
  }
})

/** An agent whose operation goes on for one more look. */
async function startRunning (t: Test, last: Partial<Operation>): Promise<{ env: NodeJS.ProcessEnv, sent: string[] }> {
  let looks = 0
  const sent: string[] = []
  const server = createServer((request, response) => {
    response.setHeader('content-type', 'application/json')
    const { method, url = '' } = request
    void text(request).then(body => {
      if (method !== 'GET') sent.push(`${method} ${url} ${body}`)
      if (method === 'PUT') {
        response.statusCode = 202
        response.end(JSON.stringify({ id: 'x', runId: 'r', kind: 'gluster.startVolumeRebalance', spec: JSON.parse(body), state: 'succeeded', endedAt: '2026-01-01T00:00:00Z', result: { operationId: operation.operationId, warnings: ['It is sharded.'] }, revision: 2, tick: 0, instance: 'i' }))
      } else if (method === 'PATCH') response.end(JSON.stringify({ ...operation, throttle: 'lazy' }))
      else if (url.startsWith('/gluster/operations/')) response.end(JSON.stringify(looks++ === 0 ? operation : { ...operation, ...last }))
      else response.end(JSON.stringify({ items: [operation], observedAt: '' }))
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => { server.closeAllConnections(); server.close() })
  const address = server.address()
  return { env: { VDSM_TASKS_URL: `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}` }, sent }
}

t.test('--wait follows the operation to its end, and its status says how that was', async t => {
  const totals = { ...numbers, failures: 0 }
  const well = await startRunning(t, { state: 'completed', complete: true, missing: [], totals })
  const done = await runCommand(t, ['rebalance', 'images', 'start', '--wait', '--id', 'x'], { env: well.env })
  t.match(done, { status: 0, stdout: /done {2}rebalance of images completed: 12 files, 1 GiB moved\n$/, stderr: /warning {2}It is sharded\.\n[^]*50 %, 1 GiB of 2 GiB/ })
  for (const [last, words] of [
    [{ state: 'completed', complete: false, missing: ['node2'], totals }, /these hosts do not tell: node2/],
    [{ state: 'failed', complete: true, missing: [] }, /failed {2}rebalance of images failed: .*1 failures/],
    [{ state: 'stopped', complete: true, missing: [], totals }, /stopped/]
  ] as const) {
    const { env } = await startRunning(t, { ...last, missing: [...last.missing] })
    t.match(await runCommand(t, ['rebalance', 'images', 'start', '--wait', '--id', 'x'], { env }), { status: 1, stdout: words })
  }
})

t.test('the throttle of what runs is changed', async t => {
  const { env, sent } = await startRunning(t, {})
  t.match(await runCommand(t, ['rebalance', 'images', 'throttle', '--throttle', 'lazy'], { env }), { status: 0, stdout: 'rebalance of images  lazy\n' })
  t.strictSame(sent, [`PATCH /gluster/operations/${operation.operationId} {"throttle":"lazy"}`])
  t.match(await runCommand(t, ['rebalance', 'images', 'throttle'], { env }), { status: 2 })
  t.match(await runCommand(t, ['remove-brick', 'images', 'throttle', '--throttle', 'lazy'], { env }), { status: 2 })
})
