import t from 'tap'
import { parseAnswer, readOperationId, readPool, readRebalance, readRemoveBrick, readTaskList, readTasks, readVolumeList, readVolumes, type Answer } from '../../src/gluster/answers.ts'
import { readDetail } from '../../src/gluster/brick-answers.ts'
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

/** What a reader makes of an answer, as a list of things that do not depend on each other, each with its own parts. */
function partsOf (command: string, answer: Answer): Array<{ item: unknown, parts: unknown[] }> {
  const alone = (items: readonly unknown[]): Array<{ item: unknown, parts: unknown[] }> => items.map(item => ({ item, parts: [] }))
  switch (readerOf(command)) {
    case readVolumes: return readVolumes(answer).map(({ bricks, options, problem, ...item }) => ({ item, parts: [...bricks, ...options] }))
    case readTasks: return [...readTasks(answer)].map(([item, parts]) => ({ item, parts }))
    case readDetail: return [...readDetail(answer)].map(([item, parts]) => ({ item, parts }))
    case readPool: return alone(readPool(answer))
    case readRebalance: return alone(readRebalance(answer).nodes)
    case readRemoveBrick: return alone(readRemoveBrick(answer).nodes)
    default: return []
  }
}

/** How many of the things are not among those that were read later. */
function lost (before: readonly unknown[], after: readonly unknown[]): unknown[] {
  const there = new Set(after.map(thing => JSON.stringify(thing)))
  return before.filter(thing => !there.has(JSON.stringify(thing)))
}

t.test('one odd value never costs another volume, brick or host', async t => {
  const odd = ['', '-1', '-1.00', '18446744073709551615', 'N/A', '1e3', 'x &lt;y', '<deep>1</deep>']
  let leaves = 0
  for (const name of captures.filter(capture => outputOf(capture).startsWith('<?xml') && answerOf(capture).ok)) {
    const command = commandOf(name)
    const output = outputOf(name)
    const before = partsOf(command, parseAnswer(output))
    for (const { index, 0: leaf, 1: tag } of output.matchAll(/<([\w-]+)>[^<]*<\/\1>/g)) {
      if (before.length === 0) continue
      leaves++
      for (const value of odd) {
        // that is how Gluster refuses
        if (tag === 'opRet' && value === '-1') continue
        const changed = `${output.slice(0, index)}<${tag}>${value}</${tag}>${output.slice(index + leaf.length)}`
        const after = partsOf(command, parseAnswer(changed))
        const items = lost(before, after)
        const told = `${name}: <${tag}>${value}</${tag}> at ${index}`
        if (items.length > 1) t.fail(`${told} cost ${JSON.stringify(items)}`)
        const same = before.length === after.length ? before.map(({ parts }, place) => lost(parts, after[place]?.parts ?? [])) : []
        if (same.flat().length > 1) t.fail(`${told} cost ${JSON.stringify(same)}`)
      }
    }
  }
  t.ok(leaves > 2000, `${leaves} values were replaced`)
})

t.test('a value that cannot be read is told with an excerpt, and is 0 or unknown', async t => {
  const read = (from: string, to: string) => readRebalance(parseAnswer(outputOf('rebal-status-done').replace(from, to)))
  const sound = readRebalance(answerOf('rebal-status-done'))
  t.equal(sound.problem, undefined)
  for (const [from, to, member, value, unsure] of [
    ['<size>25800000</size>', '<size>18446744073709551615</size>', 'bytes', 0, undefined],
    ['<runtime>2.00</runtime>', '<runtime>-3.00</runtime>', 'runtimeSeconds', 0, undefined],
    ['<lookups>188</lookups>', '<lookups>188</lookups><lookups>7</lookups>', 'scanned', 0, undefined],
    ['<lookups>188</lookups>', '<lookups>188</lookups><lookups>188</lookups>', 'scanned', 188, undefined],
    ['<failures>0</failures>', '', 'failures', 0, true],
    ['<status>3</status>', '<status>done</status>', 'status', 99, true]
  ] as const) {
    const { nodes: [first, second], problem, unsure: isUnsure } = read(from, to)
    t.equal(first?.[member], value, to)
    t.strictSame(second, sound.nodes[1])
    t.equal(isUnsure, unsure, to)
    if (to.includes('188</lookups><lookups>188')) t.equal(problem, undefined)
    else t.match(problem, /It reads: .*c654ae1f/, to)
  }
  t.match(read('<task-id>8fcc4bee-1780-4c6e-8ff6-84e67c30e1c2</task-id>', ''), { nodes: sound.nodes, problem: /task-id/ })
  const [node] = /<node>[^]*?<\/node>/.exec(outputOf('rebal-status-done')) ?? ['']
  t.strictSame(read(node, node + node).nodes, sound.nodes, 'a host that is told twice counts once')
  t.match(read(node, node + node.replace('<status>3<', '<status>1<')), { unsure: true, problem: /two states/ })
})

t.test('a volume of which something cannot be read says so', async t => {
  const of = (from: string, to: string) => readVolumeList(parseAnswer(outputOf('many-info').replace(from, to)))
  t.match(of('<replicaCount>3</replicaCount>', '<replicaCount>three</replicaCount>').volumes.map(({ volume, problem }) => [volume, problem !== undefined]), [['a1', true], ['e1', false], ['r1', false], ['v0', false]])
  t.match(of('<name>node1:/srv/4/a1</name>', '<name>nowhere</name>').volumes[0], { bricks: { length: 2 }, problem: /nowhere/ })
  const nameless = of('<name>a1</name>', '')
  t.strictSame(nameless.volumes.map(({ volume }) => volume), ['e1', 'r1', 'v0'])
  t.match(nameless.problem, /name/)
})

t.test('a tiered volume has the bricks of both groups', async t => {
  const output = outputOf('rb3-info')
  const [bricks = ''] = /<bricks>[^]*?<\/bricks>/.exec(output) ?? []
  const [, first = '', others = ''] = /<bricks>\s*(<brick [^]*?<\/brick>)([^]*)<\/bricks>/.exec(bricks) ?? []
  const tiered = output.replace(bricks, `<bricks><hotBricks><hotBrickType>Distribute</hotBrickType>${first}</hotBricks><coldBricks>${others}</coldBricks></bricks>`).replace('>Distribute<', '>Tier<')
  const [volume] = readVolumes(parseAnswer(tiered))
  t.strictSame(volume?.bricks, readVolumes(answerOf('rb3-info'))[0]?.bricks)
  t.equal(volume?.problem, undefined)
})

t.test('a brick without a device, or with impossible space, is still one', async t => {
  const read = (edit: (output: string) => string) => readDetail(parseAnswer(edit(outputOf('many-detail'))))
  const first = (details: ReturnType<typeof readDetail>) => [...details.values()][0]?.[0]
  for (const device of ['<device/>', '', '<device>N/A</device>']) {
    const brick = first(read(output => output.replace(/<device>[^<]*<\/device>/, device)))
    t.match(brick, { online: true, space: { bytesTotal: Number } })
    t.equal(brick?.space?.device, undefined)
  }
  const full = first(read(output => output.replace(/<sizeFree>\d+</, '<sizeFree>18446744073709551615<')))
  t.equal(full?.space, undefined)
  t.match(full, { online: true, problem: /sizeFree/ })
  t.equal(first(read(output => output.replace(/<sizeFree>\d+</, '<sizeFree>9000000000000000<')))?.space, undefined, 'more is free than there is')
})

t.test('of tasks on a volume that cannot be read, the others are told', async t => {
  const list = readTaskList(parseAnswer(outputOf('rb3-tasks').replace(/<id>[^<]*<\/id>/, '')))
  t.strictSame([...list.tasks], [['e1', []], ['r1', []], ['v0', []]])
  t.match([...list.problems], [['v0', /Remove brick/]])
})

t.test('an odd verdict over content is taken for what it holds, and without content for nothing', async t => {
  const odd = outputOf('rb3-tasks').replace('<opRet>0</opRet>', '<opRet>fine</opRet>').replace('<opErrno>0</opErrno>', '<opErrno>-</opErrno>')
  t.match(parseAnswer(odd), { ok: true, errno: 0, problem: /fine/ })
  t.throws(() => parseAnswer(outputOf('set-while-running').replace('<opRet>0</opRet>', '<opRet>fine</opRet>')), UnexpectedOutput)
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

t.test('a peer that is connected but rejected is told from one that takes part', async t => {
  const rejected = outputOf('pool-list').replace('<state>3</state>', '<state>6</state>')
  t.strictSame(readPool(parseAnswer(rejected)).map(host => host.rejected), [true, false, false])
  t.strictSame(readPool(answerOf('pool-list')).map(host => host.rejected), [false, false, false])
  const down = outputOf('pool-list').replace('<connected>1</connected>', '<connected>0</connected>').replace('<state>3</state>', '<state>6</state>')
  t.strictSame(readPool(parseAnswer(down)).map(host => host.rejected), [false, false, false], 'one that is down is just down')
})
