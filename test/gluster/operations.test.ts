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

t.test('a host that is silent is missing, whatever the pool says', async t => {
  const { gluster, change } = await standIn(t, healthy)
  // as Gluster leaves out a host whose glusterd is down
  await change('volume remove-brick v0 node2:/srv/1/v0 status', 'rb3-status', output => output.replace(/<node>[^]*<\/node>/, ''))
  t.match((await new Operations({ gluster, hostId: 'here' }).list()).items, [{ state: 'unknown', complete: false, missing: ['node2'] }])
})

t.test('another host that tells of another operation is a disagreement, one that cannot be asked is none', async t => {
  const { gluster, change } = await standIn(t, { ...healthy, '--remote-host=node2 volume status all tasks': 'rebal-status-nosuchvol' })
  const operations = new Operations({ gluster, hostId: 'here' })
  t.equal((await operations.list()).items[0]?.disagreement, undefined)

  await change('--remote-host=node2 volume status all tasks', 'dis-tasks-n2')
  const settled = new Operations({ gluster, hostId: 'here', settleMs: 0 })
  // one host a look
  for (let look = 0; look < 2; look++) {
    await settled.list()
    settled.expire()
  }
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

t.test('a volume that is locked is missing from the answer about all: what runs on it is unknown', async t => {
  const { gluster, calls } = await standIn(t, { ...healthy, 'volume status all tasks': 'rb-r1-tasks' })
  const { items, unknown } = await new Operations({ gluster, hostId: 'here' }).list()
  t.same(items.filter(({ volume }) => volume === 'v0'), [])
  t.match(unknown, [{ volume: 'v0', code: 'gluster-busy' }], 'what cannot be told is not told to be nothing')
  t.equal((await calls()).filter(call => call.endsWith('volume status all tasks') && !call.includes('remote-host')).length, 2, 'it was asked for again')
})

/** A gluster that knows ten volumes with a rebalance each, and answers commands from its standard input as the real one does. */
async function tenRebalances (t: Test, { refuse = '' } = {}) {
  const folder = await temporaryDirectory(t)
  const command = join(folder, 'gluster')
  const [, head = '', volume = '', tail = ''] = /^(.*<volumes>)\s*(<volume>.*?<\/volume>)(.*)$/s.exec(outputOf('rb3-info')) ?? []
  const names = Array.from({ length: 10 }, (_, index) => `v${index}`)
  const idOf = (name: string): string => `599f20be-c518-4fb4-b2a4-0941018bed2${name.slice(1)}`
  const answer = (inside: string): string => `<?xml version="1.0"?><cliOutput><opRet>0</opRet><opErrno>0</opErrno><opErrstr/>${inside}</cliOutput>`
  const file = async (name: string, text: string): Promise<void> => { await writeFile(join(folder, name.replace(/ /g, '_')), sameCluster(text)) }
  await file('volume info', head + names.map(name => volume.replace('<name>v0</name>', `<name>${name}</name>`)).join('') + tail)
  await file('pool list', outputOf('pool-list'))
  const tasks = names.map(name => `<volume><volName>${name}</volName><tasks><task><type>Rebalance</type><id>${idOf(name)}</id></task></tasks></volume>`)
  await file('volume status all tasks', answer(`<volStatus><volumes>${tasks.join('')}</volumes></volStatus>`))
  await file('volume status all detail', outputOf('many-detail'))
  const report = outputOf('status3-n1')
  for (const name of names) await file(`volume rebalance ${name} status`, report.replace(/<task-id>[^<]*/, `<task-id>${idOf(name)}`))
  await file('busy', outputOf('concurrent-b'))
  await writeFile(command, `#!/bin/sh
cd '${folder}'
shift 2
echo "run $*" >> calls
case "$1" in --remote-host*) shift;; esac
answer () {
  if [ "$*" = "${refuse}" ]; then cat busy; exit 1; fi
  cat "$(echo "$*" | tr ' ' '_')"
}
if [ $# -gt 0 ]; then answer "$*"; exit; fi
while read -r line; do answer "$line"; done
`)
  await chmod(command, 0o755)
  const calls = async (): Promise<string[]> => (await readFile(join(folder, 'calls'), 'utf8')).trim().split('\n').map(call => call.slice(4))
  return { gluster: new Gluster({ command, patienceMs: 0 }), calls }
}

t.test('ten operations cost at most five calls a look, estimates and other hosts included', async t => {
  const { gluster, calls } = await tenRebalances(t)
  const operations = new Operations({ gluster, hostId: 'here' })
  const before: number[] = [0]
  for (let look = 0; look < 4; look++) {
    const { items } = await operations.list()
    t.equal(items.length, 10)
    t.ok(items.every(({ problem, nodes }) => problem === undefined && nodes.length === 3))
    operations.expire()
    before.push((await calls()).length)
  }
  for (const [look, count] of before.slice(1).entries()) t.ok(count - (before[look] ?? 0) <= 5, `${count - (before[look] ?? 0)} calls in look ${look}`)
  t.equal((await calls()).filter(call => call.includes('remote-host')).length, 2, 'each of the other hosts was asked')
})

t.test('an operation that Gluster does not tell of hides no other, and is asked last from then on', async t => {
  const { gluster } = await tenRebalances(t, { refuse: 'volume rebalance v3 status' })
  const operations = new Operations({ gluster, hostId: 'here' })
  for (let look = 0; look < 2; look++) {
    const { items } = await operations.list()
    t.strictSame(items.filter(({ problem }) => problem !== undefined).map(({ volume, problem }) => [volume, problem?.code]), [['v3', 'gluster-busy']])
    t.equal(items.length, 10)
    operations.expire()
  }
})

t.test('what can be read of a report is told, and the excerpt with it', async t => {
  const { gluster, change } = await standIn(t, healthy)
  const status = 'volume remove-brick v0 node2:/srv/1/v0 status'
  await change(status, 'rb3-status', output => output.replaceAll(/<size>\d+</g, '<size>18446744073709551615<'))
  const { items: [spoiled] } = await new Operations({ gluster, hostId: 'here' }).list()
  t.match(spoiled, { state: 'running', complete: true, totals: { files: 4, bytes: 0, scanned: 35 }, problem: { code: 'gluster-unexpected', detail: /18446744073709551615/ } })
  await change(status, 'rb3-status', output => output.replace(/<status>\d+</, '<status>?<').replace(/<task-id>[^<]*<\/task-id>/, ''))
  const { items: [unsure] } = await new Operations({ gluster, hostId: 'here' }).list()
  t.match(unsure, { operationId: '599f20be-c518-4fb4-b2a4-0941018bed24', state: 'unknown', complete: false, totals: { files: 4 } })
})

t.test('a task that cannot be read makes its volume unknown, and no other', async t => {
  const { gluster, change } = await standIn(t, healthy)
  await change('volume status all tasks', 'rb3-tasks', output => output.replace(/<id>[^<]*<\/id>/, ''))
  const list = await new Operations({ gluster, hostId: 'here' }).list()
  t.strictSame(list.items, [])
  t.match(list.unknown, [{ volume: 'v0', code: 'gluster-unexpected', detail: /Remove brick/ }])
})

t.test('a volume and a brick that cannot be read are told as far as they can', async t => {
  const { gluster, change } = await standIn(t, healthy)
  await change('volume info', 'rb3-info', output => output.replace(/<replicaCount>\d+</, '<replicaCount>-<'))
  await change('volume status all detail', 'many-detail', output => output.replaceAll(/<device>[^<]*<\/device>/g, ''))
  const { items: [volume] } = await new Operations({ gluster, hostId: 'here' }).volumes()
  t.match(volume, { volume: 'v0', problem: { code: 'gluster-unexpected', detail: /replicaCount/ }, bricks: [{ online: true, bytesTotal: Number }, Object, Object] })
})

t.test('what was seen last is told, with its time and why, when Gluster does not answer any more; without a daemon nothing is', async t => {
  const { gluster, change } = await standIn(t, healthy)
  const operations = new Operations({ gluster, hostId: 'here' })
  const list = await operations.list()
  const volumes = await operations.volumes()
  t.equal(list.problem, undefined)
  const timedOut = () => '<cliOutput><opRet>-1</opRet><opErrno>110</opErrno><opErrstr>Error : Request timed out</opErrstr></cliOutput>'
  await change('volume info', 'rb3-info', timedOut)
  operations.expire()
  t.match(await operations.list(), { items: [{ operationId: list.items[0]?.operationId }], observedAt: list.observedAt, problem: { code: 'gluster-unresponsive', detail: /timed out/ } })
  t.match(await operations.volumes(), { items: [{ volume: 'v0' }], observedAt: volumes.observedAt, problem: { code: 'gluster-unresponsive' } })
  const never = new Operations({ gluster, hostId: 'here' })
  await t.rejects(never.list(), { code: 'gluster-unresponsive' })
  await change('volume info', 'glusterd-down')
  operations.expire()
  await t.rejects(operations.list(), { code: 'gluster-unavailable' })
})

t.test('fifty idle volumes cost three calls, and no peer is asked', async t => {
  const [, head = '', volume = '', tail = ''] = /^(.*<volumes>)\s*(<volume>.*?<\/volume>)(.*)$/s.exec(outputOf('rb3-info')) ?? []
  const names = Array.from({ length: 50 }, (_, index) => `v${index}`)
  const info = head + names.map(name => volume.replace('<name>v0</name>', `<name>${name}</name>`)).join('') + tail.replace(/<count>\d+<\/count>/, '<count>50</count>')
  const tasks = `<cliOutput><opRet>0</opRet><opErrno>0</opErrno><opErrstr/><volStatus><volumes>${names.map(name => `<volume><volName>${name}</volName><tasks/></volume>`).join('')}</volumes></volStatus></cliOutput>`
  const { gluster, calls, change } = await standIn(t, healthy)
  await change('volume info', 'rb3-info', () => info)
  await change('volume status all tasks', 'rb3-tasks', () => tasks)
  const operations = new Operations({ gluster, hostId: 'here' })
  t.strictSame((await operations.list()).items, [])
  t.strictSame((await calls()).map(call => call.split(' ').slice(2).join(' ')), ['volume info', 'pool list', 'volume status all tasks'])
})
