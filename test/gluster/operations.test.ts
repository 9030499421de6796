import { chmod, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { Gluster } from '../../src/gluster/cli.ts'
import { Operations } from '../../src/gluster/operations.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { outputOf } from './fixture.ts'
import { Empty } from '../helpers/empty.ts'

/** The pool was listed on another day, when the hosts had other ids. */
function sameCluster (output: string): string {
  return output
    .replaceAll('b39a43d8-7c3c-42fb-adfb-ab80f3b32916', '8ed0315a-acbe-4cab-89ac-6ba2a2ac1bc6')
    .replaceAll('42d9d56b-c496-4c01-9410-d323c7dff59e', '5e538d17-8db1-44fd-9f64-ed2f7fd14c90')
    .replaceAll('40f84ddc-1bb1-4f85-884d-02a349a4946f', 'bae82259-f6e0-4fb0-b41b-d0eadb85c1f3')
}

/**
 * A stand-in for gluster that prints a capture for each command; `answers` maps the end of the command line to captures.
 * What is changed of an end with `.next` is printed from the second time on.
 */
async function standIn (t: Test, answers: Record<string, string>): Promise<{ gluster: Gluster, calls: () => Promise<string[]>, change: (end: string, capture: string, edit?: (output: string) => string) => Promise<void> }> {
  const folder = await temporaryDirectory(t)
  const command = join(folder, 'gluster')
  const change = async (end: string, capture: string, edit = (output: string) => output): Promise<void> => {
    await writeFile(join(folder, end.replace(/[ /]/g, '_')), edit(sameCluster(outputOf(capture))))
  }
  await Promise.all(Object.entries(answers).map(([end, capture]) => change(end, capture)))
  await writeFile(command, `#!/bin/sh
echo "$*" >> '${folder}/calls'
shift 2
answer="${folder}/$(echo "$*" | tr ' /' '__')"
cat "$answer"
if [ -e "$answer.next" ]; then mv "$answer.next" "$answer"; fi
`)
  await chmod(command, 0o755)
  const calls = async (): Promise<string[]> => (await readFile(join(folder, 'calls'), 'utf8')).trim().split('\n')
  return { gluster: new Gluster({ command }), calls, change }
}

const healthy = {
  'volume info': 'rb3-info',
  'pool list': 'pool-list',
  'volume status all tasks': 'rb3-tasks',
  '--remote-host=node2 volume status all tasks': 'rb3-tasks',
  '--remote-host=node3 volume status all tasks': 'rb3-tasks',
  'volume remove-brick v0 node2:/srv/1/v0 status': 'rb3-status',
  'volume status all detail': 'many-detail'
}

t.test('the operation is told with its numbers, the hosts and an estimate', async t => {
  const { gluster } = await standIn(t, healthy)
  const operations = new Operations({ gluster, hostId: 'here' })
  const { items } = await operations.list()
  t.match(items, [{
    operationId: '599f20be-c518-4fb4-b2a4-0941018bed24',
    kind: 'remove-brick',
    volume: 'v0',
    state: 'running',
    complete: true,
    missing: Empty,
    totals: { files: 4, bytes: 4000000, scanned: 35 },
    estimate: { basis: 'bytes-on-removed-bricks', bytesLeft: 2040373248 - 1973362688 },
    startedAt: /^\d{4}-/
  }])
  t.equal(items.length, 1)
  t.equal(items[0]?.disagreement, undefined)
  t.match(await operations.find('599f20be-c518-4fb4-b2a4-0941018bed24'), { volume: 'v0' })
  await t.rejects(operations.find('00000000-0000-4000-8000-000000000000'), { code: 'operation-not-found' })
})

t.test('a thousand pollers cost one look', async t => {
  const { gluster, calls } = await standIn(t, healthy)
  const operations = new Operations({ gluster, hostId: 'here' })
  await Promise.all(Array.from({ length: 1000 }, () => operations.list()))
  t.equal((await calls()).filter(call => call.endsWith('volume info')).length, 1)
})

t.test('an operation whose status cannot be understood is told as such, with the excerpt', async t => {
  const { gluster } = await standIn(t, { ...healthy, 'volume remove-brick v0 node2:/srv/1/v0 status': 'vol-create' })
  const { items } = await new Operations({ gluster, hostId: 'here' }).list()
  t.match(items, [{ state: 'unknown', complete: false, missing: ['node2'], nodes: Empty, problem: { code: 'gluster-unexpected', detail: /It reads/ } }])
})

t.test('an operation that has vanished since the look at the tasks is not there', async t => {
  const { gluster } = await standIn(t, { ...healthy, 'volume remove-brick v0 node2:/srv/1/v0 status': 'never3-rb-status' })
  t.same((await new Operations({ gluster, hostId: 'here' }).list()).items, [])
})

t.test('a report of another operation than the tasks tell of says nothing of that one', async t => {
  const { gluster, change } = await standIn(t, healthy)
  const other = (output: string) => output.replaceAll('599f20be-c518-4fb4-b2a4-0941018bed24', '11111111-c518-4fb4-b2a4-0941018bed24')
  await change('volume remove-brick v0 node2:/srv/1/v0 status', 'rb3-status', other)
  t.strictSame((await new Operations({ gluster, hostId: 'here' }).list()).items, [])
})

t.test('a host that was lost after the look at the hosts is missing', async t => {
  const { gluster, change } = await standIn(t, healthy)
  // as Gluster leaves out a host whose glusterd is down
  await change('volume remove-brick v0 node2:/srv/1/v0 status', 'rb3-status', output => output.replace(/<node>[^]*<\/node>/, ''))
  t.match((await new Operations({ gluster, hostId: 'here' }).list()).items, [{ missing: Empty }], 'connected all the time, and silent: it takes no part')
  const lost = (output: string) => output.replace(/(5e538d17-8db1-44fd-9f64-ed2f7fd14c90[^]*?<connected>)1/, '$10')
  await change('pool list.next', 'pool-list', lost)
  t.match((await new Operations({ gluster, hostId: 'here' }).list()).items, [{ complete: false, missing: ['node2'] }])
})

t.test('another host that tells of another operation is a disagreement, one that cannot be asked is none', async t => {
  const { gluster, change } = await standIn(t, { ...healthy, '--remote-host=node2 volume status all tasks': 'rebal-status-nosuchvol' })
  const operations = new Operations({ gluster, hostId: 'here' })
  t.equal((await operations.list()).items[0]?.disagreement, undefined)

  await change('--remote-host=node2 volume status all tasks', 'dis-tasks-n2')
  const settled = new Operations({ gluster, hostId: 'here', settleMs: 0 })
  const { items } = await settled.list()
  t.match(items, [
    { operationId: '599f20be-c518-4fb4-b2a4-0941018bed24', state: 'unknown', complete: false, missing: ['node2'], disagreement: [{ host: 'node2', operationId: '9ef7033d-01f4-4978-ad8f-3d067baa24bf' }] },
    { operationId: '9ef7033d-01f4-4978-ad8f-3d067baa24bf', state: 'unknown', complete: false, nodes: Empty, disagreement: [{ host: 'node1' }, { host: 'node3' }] }
  ])

  const young = await new Operations({ gluster, hostId: 'here' }).list()
  t.match(young.items, [{ operationId: '599f20be-c518-4fb4-b2a4-0941018bed24', state: 'running', missing: Empty }], 'not before it has lasted longer than the start of an operation takes')
  t.equal(young.items.length, 1)
})

t.test('a volume has its bricks, space and operation', async t => {
  const { gluster } = await standIn(t, healthy)
  const { items, problem } = await new Operations({ gluster, hostId: 'here' }).volumes()
  t.equal(problem, undefined)
  t.match(items, [{ volume: 'v0', state: 'started', type: 'Distribute', bytesTotal: 3 * 2040373248, operations: [{ kind: 'remove-brick', state: 'running' }] }])
  t.match(items[0]?.bricks, [{ brick: 'node1:/srv/1/v0', host: 'node1', online: true }, Object, Object])
})

t.test('when the bricks cannot be asked, the volumes are told without', async t => {
  const { gluster } = await standIn(t, { ...healthy, 'volume status all detail': 'back3-status-n1' })
  const { items, problem } = await new Operations({ gluster, hostId: 'here' }).volumes()
  t.match(problem, { code: 'gluster-refused' })
  t.equal(items[0]?.bricks[0]?.online, undefined)
  t.equal(items[0]?.bytesTotal, undefined)
})

t.test('without volumes nobody is asked', async t => {
  const { gluster, calls } = await standIn(t, { 'volume info': 'info-created' })
  const operations = new Operations({ gluster, hostId: 'here' })
  t.same((await operations.list()).items, [])
  t.match((await operations.volumes()).items, [{ volume: 'v0', state: 'created', operations: Empty }])
  t.ok((await calls()).every(call => call.endsWith('volume info')))
})

t.test('whether Gluster can be asked is an answer, not an error', async t => {
  const { gluster } = await standIn(t, healthy)
  t.same(await new Operations({ gluster, hostId: 'here' }).availability(), { available: true })
  const { gluster: down } = await standIn(t, { 'pool list': 'glusterd-down' })
  t.match(await new Operations({ gluster: down, hostId: 'here' }).availability(), { available: false, code: 'gluster-unavailable', detail: /Start glusterd/ })
  t.match(await new Operations({ gluster: new Gluster({ command: '/nowhere/gluster' }), hostId: 'here' }).availability(), { available: false, code: 'gluster-unavailable', detail: /not installed/ })
})

t.test('a volume that is locked is missing from the answer about all, and asked for by itself', async t => {
  const { gluster, change } = await standIn(t, { ...healthy, 'volume status v0 tasks': 'rb3-tasks' })
  await change('volume status all tasks', 'rb-r1-tasks')
  const { items, unknown } = await new Operations({ gluster, hostId: 'here' }).list()
  t.equal(items.length, 1)
  t.equal(unknown, undefined)

  await change('volume status v0 tasks', 'vol-create')
  const blind = await new Operations({ gluster, hostId: 'here' }).list()
  t.same(blind.items, [])
  t.match(blind.unknown, [{ volume: 'v0', code: 'gluster-unexpected' }], 'what cannot be told is not told to be nothing')
})
