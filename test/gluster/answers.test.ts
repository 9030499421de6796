import t from 'tap'
import { parseAnswer, readDetail, readOperationId, readPool, readRebalance, readRemoveBrick, readTasks, readVolumes, type Answer } from '../../src/gluster/answers.ts'
import { UnexpectedOutput } from '../../src/gluster/xml.ts'
import { answerOf, captures, commandOf, outputOf } from './fixture.ts'

/** The reader that belongs to a command, if there is anything to read. */
function readerOf (command: string): ((answer: Answer) => unknown) | undefined {
  if (/^volume info/.test(command)) return readVolumes
  if (/^pool list/.test(command)) return readPool
  if (/ tasks$/.test(command)) return readTasks
  if (/ detail$/.test(command)) return readDetail
  if (/ rebalance \S+ (status|stop)$/.test(command)) return readRebalance
  if (/ remove-brick .*(status|stop)$/.test(command)) return readRemoveBrick
  if (/ (rebalance|remove-brick) .*start( force)?$/.test(command)) return readOperationId
  return undefined
}

t.test('every capture of a success is read by the reader of its command, every other one is refused with words', async t => {
  let read = 0
  for (const name of captures.filter(capture => outputOf(capture).startsWith('<?xml'))) {
    const answer = answerOf(name)
    const reader = readerOf(commandOf(name))
    if (!answer.ok) {
      t.not(answer.words, '', name)
    } else if (reader !== undefined) {
      t.ok(reader(answer), name)
      read++
    }
  }
  t.ok(read > 60, `${read} were read`)
})

t.test('without any one of its elements, a report is refused or has the same numbers: never others', async t => {
  for (const [name, reader] of [['rebal-status-done', readRebalance], ['rb3-status', readRemoveBrick], ['tasks-running-n1', readTasks], ['detail-two-hosts', readDetail], ['info-options', readVolumes], ['pool-list', readPool]] as const) {
    const output = outputOf(name)
    const whole = JSON.stringify(reader(parseAnswer(output)), maps)
    const lines = output.split('\n')
    for (const [index, line] of lines.entries()) {
      // inodesTotal may be absent: some file systems have no fixed number
      if (!/^\s*<(\w+[\w-]*)>[^<]*<\/\1>\s*$/.test(line) || line.includes('inodesTotal')) continue
      const without = lines.filter((_, other) => other !== index).join('\n')
      try {
        t.equal(JSON.stringify(reader(parseAnswer(without)), maps), whole, `${name} without ${line.trim()}`)
      } catch (error) {
        if (!(error instanceof UnexpectedOutput)) throw error
      }
    }
  }
})

t.test('an element nobody knows is let be', async t => {
  const output = outputOf('rebal-status-done')
  const more = output.replaceAll('<files>', '<novelty><files>7</files></novelty><files>').replace('<opRet>', '<mood>good</mood><opRet>')
  t.same(readRebalance(parseAnswer(more)), readRebalance(parseAnswer(output)))
})

t.test('a report has the numbers of the nodes, by id', async t => {
  t.same(readRebalance(answerOf('rebal-status-done')), {
    operationId: '8fcc4bee-1780-4c6e-8ff6-84e67c30e1c2',
    nodes: [
      { hostUuid: 'c654ae1f-c4f2-47f2-bd63-15d7a622941f', status: 3, files: 86, bytes: 25800000, scanned: 188, failures: 0, skipped: 0, runtimeSeconds: 2 },
      { hostUuid: 'ea2456b9-989e-47c8-a5d9-ff194e32c888', status: 3, files: 90, bytes: 27000000, scanned: 172, failures: 0, skipped: 0, runtimeSeconds: 2 }
    ]
  })
  t.same(readRemoveBrick(answerOf('rb3-status-down')).nodes, [], 'the aggregate of nobody is not read')
})

t.test('tasks are told by volume, with the bricks of a removal', async t => {
  t.same([...readTasks(answerOf('rb3-tasks'))], [
    ['e1', []], ['r1', []],
    ['v0', [{ type: 'remove-brick', operationId: '599f20be-c518-4fb4-b2a4-0941018bed24', bricks: ['node2:/srv/1/v0'] }]]
  ])
  t.equal(readTasks(answerOf('rb-r1-tasks')).get('r1')?.[0]?.bricks.length, 3)
  const other = outputOf('tasks-running-n1').replace('>Rebalance<', '>Tier migration<')
  t.same([...readTasks(parseAnswer(other))], [['v0', []]], 'a kind of task that nobody knows is none of ours')
})

t.test('volumes are told with their bricks, hosts and options', async t => {
  const volumes = readVolumes(answerOf('many-info'))
  t.same(volumes.map(({ volume, type, state, replicaCount, disperseCount }) => [volume, type, state, replicaCount, disperseCount]), [
    ['a1', 'Replicate', 'created', 3, 0], ['e1', 'Disperse', 'started', 1, 3], ['r1', 'Distributed-Replicate', 'started', 3, 0], ['v0', 'Distribute', 'started', 1, 0]
  ])
  t.same(volumes[0]?.bricks.map(({ brick, host, path, arbiter }) => [brick, host, path, arbiter]), [
    ['node1:/srv/4/a1', 'node1', '/srv/4/a1', false], ['node2:/srv/4/a1', 'node2', '/srv/4/a1', false], ['node3:/srv/4/a1', 'node3', '/srv/4/a1', true]
  ])
  t.equal(readVolumes(answerOf('info-options'))[0]?.options.get('user.vdsm-tasks.rebalance'), '{"taskId":"a<b&c","x":"é"}')
})

t.test('a brick that is down has no space, one whose host is down is not there', async t => {
  const down = readDetail(answerOf('brickdown-detail')).get('v0')
  t.same(down?.map(({ online, space }) => [online, space !== undefined]), [[true, true], [false, false], [true, true]])
  t.equal(readDetail(answerOf('down3-detail-n1')).get('v0')?.length, 2)
})

t.test('the pool tells who is connected', async t => {
  t.same(readPool(answerOf('down3-pool-n1')).map(({ host, connected }) => [host, connected]), [['node2', false], ['node3', true], ['localhost', true]])
})

function maps (_key: string, value: unknown): unknown {
  return value instanceof Map ? [...value] : value
}

t.test('a peer that is connected but rejected is told from one that takes part', async t => {
  const rejected = outputOf('pool-list').replace('<state>3</state>', '<state>6</state>')
  t.strictSame(readPool(parseAnswer(rejected)).map(host => host.rejected), [true, false, false])
  t.strictSame(readPool(answerOf('pool-list')).map(host => host.rejected), [false, false, false])
  const down = outputOf('pool-list').replace('<connected>1</connected>', '<connected>0</connected>').replace('<state>3</state>', '<state>6</state>')
  t.strictSame(readPool(parseAnswer(down)).map(host => host.rejected), [false, false, false], 'one that is down is just down')
})
