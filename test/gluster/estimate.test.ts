import t from 'tap'
import { readVolumes, type VolumeInfo, type VolumeTask } from '../../src/gluster/answers.ts'
import { readDetail, type BrickDetail } from '../../src/gluster/brick-answers.ts'
import { capacityOf, remainderOf, type Usage } from '../../src/gluster/estimate.ts'
import { answerOf } from './fixture.ts'

const details = readDetail(answerOf('many-detail'))
const at = '2026-01-01T00:00:00.000Z'
const rebalance: VolumeTask = { type: 'rebalance', operationId: 'X', bricks: [] }

function volumeOf (name: string): VolumeInfo {
  const found = readVolumes(answerOf('many-info')).find(({ volume }) => volume === name)
  if (found === undefined) throw new Error(name)
  return found
}

/** The bricks of a volume with these bytes in use, in order, of 1000 each. */
function filled (volume: VolumeInfo, used: Array<number | 'offline'>): Usage {
  const bricks = volume.bricks.map(({ hostUuid, path }, index): BrickDetail => {
    const bytes = used[index]
    return typeof bytes === 'number'
      ? { path, hostUuid, online: true, space: { bytesTotal: 1000, bytesFree: 1000 - bytes, device: `/dev/${index}` } }
      : { path, hostUuid, online: false }
  })
  return { bricks: new Map([[volume.volume, bricks]]), at }
}

t.test('a rebalance has to even out the bricks', async t => {
  t.same(remainderOf(volumeOf('v0'), rebalance, filled(volumeOf('v0'), [600, 300, 0])), { bytesLeft: 300, basis: 'even-fill-of-bricks' })
  t.same(remainderOf(volumeOf('v0'), rebalance, filled(volumeOf('v0'), [300, 300, 300])), { bytesLeft: 0, basis: 'even-fill-of-bricks' })
})

t.test('replicas hold the same data, and that counts once', async t => {
  const volume = volumeOf('r1')
  t.equal(remainderOf(volume, rebalance, filled(volume, [400, 400, 390, 0, 0, 0]))?.bytesLeft, 200)
})

t.test('a brick removal has to move what is on the bricks', async t => {
  const volume = volumeOf('v0')
  const task: VolumeTask = { type: 'remove-brick', operationId: 'X', bricks: ['node2:/srv/1/v0'] }
  t.same(remainderOf(volume, task, filled(volume, [1, 250, 3])), { bytesLeft: 250, basis: 'bytes-on-removed-bricks' })
})

t.test('there is no estimate when the space in use says nothing', async t => {
  const volume = volumeOf('v0')
  t.equal(remainderOf(volume, rebalance, filled(volume, [1, 'offline', 3])), undefined)
  t.equal(remainderOf(volume, rebalance, { bricks: new Map(), at }), undefined)
  const shared = filled(volume, [1, 2, 3])
  const [first] = volume.bricks
  const intruder: BrickDetail = { path: '/other', hostUuid: first?.hostUuid ?? '', online: true, space: { bytesTotal: 1000, bytesFree: 1, device: '/dev/0' } }
  t.equal(remainderOf(volume, rebalance, { at, bricks: new Map([...shared.bricks, ['other', [intruder]]]) }), undefined, 'another volume has a brick on the same file system')
})

t.test('a volume holds what its smallest bricks hold', async t => {
  const one = 2040373248
  t.equal(capacityOf(volumeOf('v0'), details.get('v0') ?? [])?.bytesTotal, 3 * one)
  t.equal(capacityOf(volumeOf('r1'), details.get('r1') ?? [])?.bytesTotal, 2 * one)
  t.equal(capacityOf(volumeOf('e1'), details.get('e1') ?? [])?.bytesTotal, 2 * one, 'two pieces of data and one of redundancy')
  t.equal(capacityOf(volumeOf('v0'), []), undefined)
})
