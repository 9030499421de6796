import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { Gluster } from '../../src/gluster/cli.ts'
import { startRemoveBrick } from '../../src/gluster/start-remove-brick.ts'
import { startVolumeRebalance } from '../../src/gluster/start-volume-rebalance.ts'
import { stopVolumeRebalance } from '../../src/gluster/stop-volume-rebalance.ts'
import { Turns } from '../../src/gluster/turns.ts'
import type { VerbContext, Workshop } from '../../src/gluster/verb.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { outputOf } from './fixture.ts'

const context: VerbContext = { id: 'task', signal: new AbortController().signal, accepting: () => {}, accepted: () => {}, log: { warn: () => {} } }
const answer = (inside: string): string => `<?xml version="1.0"?><cliOutput><opRet>0</opRet><opErrno>0</opErrno><opErrstr/>${inside}</cliOutput>`
const refusal = (words: string): string => `<?xml version="1.0"?><cliOutput><opRet>-1</opRet><opErrno>30800</opErrno><opErrstr>${words}</opErrstr></cliOutput>`
const operationId = '599f20be-c518-4fb4-b2a4-0941018bed24'
const tasksOf = (volume: string, type?: string): string => answer(`<volStatus><volumes><volume><volName>${volume}</volName><tasks>${type === undefined ? '' : `<task><type>${type}</type><id>${operationId}</id></task>`}</tasks></volume></volumes></volStatus>`)
const report = (status: number, numbers = ''): string => answer(`<volRebalance><task-id>${operationId}</task-id>${['b39a43d8-7c3c-42fb-adfb-ab80f3b32916', '42d9d56b-c496-4c01-9410-d323c7dff59e'].map(id =>
  `<node><id>${id}</id><files>0</files><size>0</size>${numbers === '' ? '<lookups>0</lookups>' : numbers}<failures>0</failures><skipped>0</skipped><status>${status}</status><runtime>1.00</runtime></node>`).join('')}</volRebalance>`)

/** A gluster that answers each command line with a file, and notes them. */
async function workshopOf (t: Test, answers: Record<string, string>): Promise<{ workshop: Workshop, calls: (end: string) => Promise<number> }> {
  const folder = await temporaryDirectory(t)
  const command = join(folder, 'gluster')
  await mkdir(join(folder, 'answers'))
  for (const [line, text] of Object.entries(answers)) await writeFile(join(folder, 'answers', line.replace(/[ /]/g, '_')), text)
  await writeFile(command, `#!/bin/sh
shift 2
echo "$*" >> '${folder}/calls'
case "$*" in *'volume set'*) exec echo '${answer('')}';; esac
cat "${folder}/answers/$(echo "$*" | tr ' /' '__')"
`)
  await chmod(command, 0o755)
  const calls = async (end: string): Promise<number> => (await readFile(join(folder, 'calls'), 'utf8')).split('\n').filter(line => line.endsWith(end)).length
  return { workshop: { gluster: new Gluster({ command }), hostId: 'here', retentionSeconds: 900, turns: new Turns(), changed: () => {}, triesAfterMs: [1, 1, 1] }, calls }
}

const cluster = { 'volume info v0': outputOf('rb3-info'), 'volume info': outputOf('rb3-info'), 'pool list': outputOf('pool-list') }

t.test('a start that is refused as already started ends after a few tries, and names who believes that it runs', async t => {
  const { workshop, calls } = await workshopOf(t, {
    ...cluster,
    'volume status v0 tasks': tasksOf('v0'),
    'volume rebalance v0 start': refusal('Rebalance on v0 is already started'),
    '--remote-host=node2 volume status all tasks': tasksOf('v0', 'Rebalance'),
    '--remote-host=node3 volume status all tasks': tasksOf('v0')
  })
  await t.rejects(startVolumeRebalance(workshop).run({ kind: 'gluster.startVolumeRebalance', volume: 'v0' }, context), { code: 'gluster-busy', message: /node2 believes/ })
  t.equal(await calls('rebalance v0 start'), 4)

  const words = await workshopOf(t, {
    ...cluster,
    'volume status v0 tasks': tasksOf('v0'),
    'volume rebalance v0 start': refusal('Staging failed on node3. Error: Rebalance on v0 is already started'),
    '--remote-host=node2 volume status all tasks': refusal('nothing'),
    '--remote-host=node3 volume status all tasks': refusal('nothing')
  })
  await t.rejects(startVolumeRebalance(words.workshop).run({ kind: 'gluster.startVolumeRebalance', volume: 'v0' }, context), { code: 'gluster-busy', message: /node3 believes/ })
})

t.test('so does a removal', async t => {
  const start = 'volume remove-brick v0 node2:/srv/1/v0 start'
  const { workshop, calls } = await workshopOf(t, {
    ...cluster,
    'volume status v0 tasks': tasksOf('v0'),
    [start]: refusal('Rebalance is in progress. Please retry after completion'),
    '--remote-host=node2 volume status all tasks': tasksOf('v0'),
    '--remote-host=node3 volume status all tasks': tasksOf('v0', 'Rebalance')
  })
  await t.rejects(startRemoveBrick(workshop).run({ kind: 'gluster.startRemoveBrick', volume: 'v0', bricks: ['node2:/srv/1/v0'] }, context), { code: 'gluster-busy', message: /node3 believes/ })
  t.equal(await calls(start), 4)
})

t.test('a stop on a host that knows of nothing names the host that does', async t => {
  const gone = refusal('Rebalance not started for volume v0.')
  const { workshop } = await workshopOf(t, {
    ...cluster,
    'volume status v0 tasks': tasksOf('v0'),
    'volume rebalance v0 status': gone,
    'volume rebalance v0 stop': gone,
    '--remote-host=node2 volume status all tasks': tasksOf('v0', 'Rebalance'),
    '--remote-host=node3 volume status all tasks': tasksOf('v0')
  })
  await t.rejects(stopVolumeRebalance(workshop).run({ kind: 'gluster.stopVolumeRebalance', volume: 'v0' }, context), { code: 'operation-not-running', message: /node2 believes/ })
})

t.test('a start whose answer has no id is answered with the operation that has come', async t => {
  const { workshop } = await workshopOf(t, {
    ...cluster,
    'volume status v0 tasks': tasksOf('v0'),
    'volume rebalance v0 start': answer('<volRebalance/>')
  })
  await t.rejects(startVolumeRebalance(workshop).run({ kind: 'gluster.startVolumeRebalance', volume: 'v0' }, context), { code: 'gluster-unexpected', changed: true }, 'none has')
  const removal = await workshopOf(t, {
    ...cluster,
    'volume status v0 tasks': tasksOf('v0'),
    'volume remove-brick v0 node2:/srv/1/v0 start': answer('<volRemoveBrick/>')
  })
  await t.rejects(startRemoveBrick(removal.workshop).run({ kind: 'gluster.startRemoveBrick', volume: 'v0', bricks: ['node2:/srv/1/v0'] }, context), { code: 'gluster-unexpected' })
})

t.test('a host without a brick claims no operation as a rebalance that may be a fix-layout', async t => {
  const run = async (status: string, mode: 'rebalance' | 'fix-layout' = 'rebalance', pool = outputOf('pool-list')) => {
    const { workshop } = await workshopOf(t, { ...cluster, 'pool list': pool, 'volume status v0 tasks': tasksOf('v0', 'Rebalance'), 'volume rebalance v0 status': status })
    return await startVolumeRebalance({ ...workshop, lookingMs: 1 }).run({ kind: 'gluster.startVolumeRebalance', volume: 'v0', mode }, context)
  }
  await t.rejects(run(report(1)), { code: 'operation-conflict', message: /may be a fix-layout/ })
  await t.rejects(run(report(5)), { code: 'operation-conflict', message: /a fix-layout is in progress/ })
  t.match(await run(report(1), 'fix-layout'), { operationId, alreadyStarted: true })
  t.match(await run(report(1, '<lookups>3</lookups>')), { operationId, alreadyStarted: true }, 'it has looked at files')
  const withBrick = outputOf('pool-list').replace('b39a43d8-7c3c-42fb-adfb-ab80f3b32916', '8ed0315a-acbe-4cab-89ac-6ba2a2ac1bc6')
  t.match(await run(report(1), 'rebalance', withBrick), { operationId, alreadyStarted: true }, 'a host that holds a brick is told')
})
