import { chmod, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { Operation } from '../../src/api/operation.ts'
import { readVolumes, type VolumeInfo } from '../../src/gluster/answers.ts'
import { Gluster } from '../../src/gluster/cli.ts'
import { endedOn, leaveEnd } from '../../src/gluster/ended.ts'
import { Turns } from '../../src/gluster/turns.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { operationOf } from '../helpers/operations.ts'
import { answerOf } from './fixture.ts'

const [volume] = readVolumes(answerOf('rb3-info'))
if (volume === undefined) throw new Error('a capture without a volume')

const numbers = { files: 12, bytes: 2 ** 40, scanned: 99, failures: 1, skipped: 2, runtimeSeconds: 3.5 }
const hostUuid = '8ed0315a-acbe-4cab-89ac-6ba2a2ac1bc6'
const operation: Operation = operationOf({
  volume: volume.volume,
  state: 'stopped',
  complete: true,
  task: { taskId: 'mine', hostId: 'host1' },
  startedAt: '2026-01-01T00:00:00.000Z',
  totals: numbers,
  nodes: [{ host: 'node1', hostUuid, state: 'stopped', ...numbers }]
})

/** Leaves the note on a volume, and the volume as it is then. `said` is what was logged. */
async function leave (t: Test, of: Operation, how: 'stopped' | 'committed', answer = '<cliOutput><opRet>0</opRet><opErrno>0</opErrno><opErrstr/></cliOutput>'): Promise<{ after: VolumeInfo, value: string, said: string[] }> {
  const folder = await temporaryDirectory(t)
  const command = join(folder, 'gluster')
  await writeFile(command, `#!/bin/sh\nshift 5\nprintf '%s\\n%s' "$1" "$2" > '${folder}/set'\necho '${answer}'\n`)
  await chmod(command, 0o755)
  const said: string[] = []
  const workshop = { gluster: new Gluster({ command }), hostId: 'h', retentionSeconds: 900, turns: new Turns(), changed: () => {} }
  const context = { id: 'x', signal: new AbortController().signal, accepting: () => {}, accepted: () => {}, log: { warn: (_: object, message: string) => { said.push(message) } } }
  await leaveEnd(workshop, of, how, context)
  const [option = '', value = ''] = (await readFile(join(folder, 'set'), 'utf8')).split('\n')
  return { after: { ...volume as VolumeInfo, options: new Map([[option, value]]) }, value, said }
}

t.test('the last numbers of an operation are read from the volume as they were', async t => {
  const { after } = await leave(t, operation, 'stopped')
  const { observedAt, ...rest } = operation
  t.match(endedOn(after, () => 'node1'), [{ ...rest, ended: { how: 'stopped', at: /^\d{4}-/ } }])
  const committed = await leave(t, { ...operation, kind: 'remove-brick', state: 'completed' }, 'committed')
  t.match(endedOn(committed.after, () => 'node1'), [{ kind: 'remove-brick', state: 'completed', totals: numbers, ended: { how: 'committed' } }])
  t.ok(committed.after.options.has('user.vdsm-tasks.remove-brick-ended'))
})

t.test('the note is never as long as what glusterd dies of: without room, the sums are kept', async t => {
  const nodes = Array.from({ length: 100 }, () => ({ host: 'node1', hostUuid, state: 'stopped' as const, ...numbers }))
  const { after, value } = await leave(t, { ...operation, nodes, task: { taskId: 'x'.repeat(255), hostId: 'y'.repeat(5000) } }, 'stopped')
  t.ok(value.length <= 2000, `${value.length} characters`)
  const [ended] = endedOn(after, () => 'node1')
  t.strictSame(ended?.totals, numbers)
  t.strictSame(ended?.nodes, [])
})

t.test('what others put there is none of ours, and a note that cannot be left fails nothing', async t => {
  const { value } = await leave(t, operation, 'stopped')
  const odd = ['', '-', 'null', '[]', '{}', value.replace('"stopped"', '"burnt"'), value.replace(/"totals":\[12,/, '"totals":["12",'), value.replace(/"totals":\[12,/, '"totals":['), value.replace(hostUuid, 'x').replace('["x"', '[7'), value.slice(1)]
  for (const text of odd) t.strictSame(endedOn({ ...volume, options: new Map([['user.vdsm-tasks.rebalance-ended', text]]) }, name => name), [], text)
  const { said } = await leave(t, operation, 'stopped', '<cliOutput><opRet>-1</opRet><opErrno>1</opErrno><opErrstr>no</opErrstr></cliOutput>')
  t.equal(said.length, 1)
})
