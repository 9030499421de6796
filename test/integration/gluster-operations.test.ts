import t from 'tap'
import { startCluster, unlessCluster, until } from '../gluster/cluster/cluster.ts'
import { makeVolume, runOn } from '../gluster/cluster/rebalance.ts'
import { Empty } from '../helpers/empty.ts'

t.setTimeout(360_000)

const start = (volume: string, of: object = {}): object => ({ kind: 'gluster.startVolumeRebalance', volume, ...of })

// In its shortest form: the bricks are those of hosts 2 and 3, which takes Gluster five seconds a start and not ten.
t.test('what Gluster does, through the agents of a cluster', { skip: unlessCluster }, async t => {
  const cluster = await startCluster(t)
  const byHand = async (...command: string[]): Promise<string> => {
    const id = /ID: ([0-9a-f-]{36})/.exec(await cluster.gluster(1, 'volume', ...command))?.[1]
    if (id === undefined) throw new Error('Gluster tells no id')
    return id
  }
  const make = makeVolume.bind(undefined, cluster)
  const [one, three] = await Promise.all([
    cluster.agent(1),
    cluster.agent(3),
    ...['own', 'hand', 'layout'].map(async volume => {
      await make(volume, [2], volume === 'layout' ? { directories: 40, files: 0 } : {})
      await cluster.gluster(1, 'volume', 'add-brick', volume, `node3:/srv/1/${volume}`)
    }),
    make('removal', [2, 3]),
    make('bricks', [1, 2, 3], { slow: false })
  ])
  const operation = async (id: unknown) => {
    const { items } = await until(() => three.list(), ({ items }) => items.some(item => item.operationId === id && item.problem === undefined && item.state !== 'not-started'))
    return items.find(item => item.operationId === id)
  }

  t.test('a rebalance is started by one host, claimed on another one, and stopped there', async t => {
    const { result } = await one.run('start', start('own'))
    const { operationId } = result ?? {}
    t.match(operationId, /^[0-9a-f-]{36}$/)
    t.equal(result?.['alreadyStarted'], undefined)
    t.match(await operation(operationId), { volume: 'own', kind: 'rebalance', state: 'running', task: { taskId: 'start', hostId: 'host1' }, complete: true, missing: Empty })
    t.match(await three.run('later', start('own')), { result: { operationId, alreadyStarted: true } })
    await until(() => operation(operationId), now => now?.claimedBy?.taskId === 'later' && now.task?.taskId === 'start')
    t.match(await three.run('stop', { kind: 'gluster.stopVolumeRebalance', volume: 'own' }), { result: { operationId, final: { state: /stopped|completed/, complete: true } } })
    t.notOk((await three.list()).items.some(item => item.operationId === operationId))
  })

  t.test('a rebalance that was started by hand is claimed', async t => {
    const operationId = await byHand('rebalance', 'hand', 'start')
    t.match(await three.run('hand', start('hand')), { result: { operationId, alreadyStarted: true } })
    const claimed = await until(() => operation(operationId), now => now?.claimedBy !== undefined)
    t.match(claimed, { state: 'running', startedAt: String, claimedBy: { taskId: 'hand', hostId: 'host3' } })
    t.equal(claimed?.task, undefined, 'which does not make it one that the task has started')
  })

  t.test('a fix-layout that was started by hand is claimed by one, and by nothing that is to move files', async t => {
    const operationId = await byHand('rebalance', 'layout', 'fix-layout', 'start')
    // host 1 holds no brick of the volume: Gluster tells it nothing of a layout
    for (const [agent, id] of [[one, 'files-1'], [three, 'files-3']] as const) {
      t.match(await agent.run(id, start('layout')), { error: { code: 'operation-conflict', changed: false, operationId } })
    }
    t.match(await one.run('layout', start('layout', { mode: 'fix-layout' })), { result: { operationId, alreadyStarted: true } })
    t.match(await until(() => operation(operationId), now => now?.claimedBy !== undefined), { kind: 'fix-layout', claimedBy: { taskId: 'layout' } })
  })

  t.test('a removal that was started by hand is claimed, and stopped', async t => {
    const bricks = ['node2:/srv/1/removal']
    const removal = { volume: 'removal', bricks }
    const operationId = await byHand('remove-brick', 'removal', ...bricks, 'start')
    t.match(await three.run('brick', { kind: 'gluster.startRemoveBrick', ...removal }), { result: { operationId, alreadyStarted: true } })
    t.match(await until(() => operation(operationId), now => now?.claimedBy !== undefined), { kind: 'remove-brick', bricks, claimedBy: { taskId: 'brick' } })
    t.match(await one.run('stop-brick', { kind: 'gluster.stopRemoveBrick', ...removal }), { result: { operationId, final: { state: /stopped|completed/ } } })
    for (const agent of [one, three]) {
      const { ended = [] } = await until(() => agent.list(), ({ ended = [] }) => ended.some(item => item.operationId === operationId))
      t.match(ended.find(item => item.operationId === operationId), { kind: 'remove-brick', ended: { how: 'stopped' } }, 'every host tells its last numbers')
    }
  })

  t.test('a removal is not committed while a file is left, whatever Gluster says', async t => {
    const bricks = ['node2:/srv/1/bricks']
    const removal = { volume: 'bricks', bricks }
    // one file of the brick is out of the way while the others are moved
    await runOn(cluster, 2, 'cd /srv/1; mv "$(find bricks/1 -type f -size +0 | head -1)" left')
    const { result } = await one.run('again', { kind: 'gluster.startRemoveBrick', ...removal })
    const { operationId } = result ?? {}
    t.equal(result?.['alreadyStarted'], undefined)
    await until(() => operation(operationId), now => now?.state === 'completed')
    await runOn(cluster, 2, 'cd /srv/1; mv left bricks/1/left')
    const commit = { kind: 'gluster.commitRemoveBrick', ...removal }
    t.match(await three.run('commit', commit), { error: { code: 'bricks-not-empty', changed: false, filesLeft: 1, bricks: [{ brick: bricks[0], files: 1, examples: ['/1/left'] }] } })
    t.match(await cluster.gluster(1, 'volume', 'info', 'bricks'), bricks[0])
    await runOn(cluster, 2, 'rm /srv/1/bricks/1/left')
    t.match(await three.run('commit', commit, { reused: true }), { result: { operationId, final: { state: 'completed' } } })
    t.notMatch(await cluster.gluster(1, 'volume', 'info', 'bricks'), bricks[0])
  })
})
