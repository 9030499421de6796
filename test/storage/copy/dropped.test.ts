import t from 'tap'
import { assertNothingLost, droppedOf } from '../../../src/storage/copy/dropped.ts'

const nothing = { snapshots: [], bitmaps: [] }

t.test('each name is listed once, top first; nothing is nothing', async t => {
  t.equal(droppedOf([nothing, nothing]), undefined)
  const files = [{ snapshots: ['b'], bitmaps: ['daily', 'weekly'] }, { snapshots: ['a', 'b'], bitmaps: ['daily'] }]
  t.strictSame(droppedOf(files), { snapshots: ['b', 'a'], bitmaps: ['daily', 'weekly'] })
})

t.test('the names of a hostile image are harmless, and not more than anybody reads', async t => {
  const names = Array.from({ length: 60_000 }, (_, index) => `\x1b]0;${index}\x07`)
  const dropped = droppedOf([{ snapshots: names, bitmaps: ['x'.repeat(65_536), '\u202egnp.exe'] }])
  t.equal(dropped?.snapshots.length, 1000)
  t.equal(dropped?.more, 59_000)
  t.equal(dropped?.snapshots[0], '\\u001b]0;0\\u0007')
  t.strictSame(dropped?.bitmaps.map(name => name.length), [255, 13])
  t.equal(dropped?.bitmaps[1], '\\u202egnp.exe')
})

t.test('a loss is refused only to those who want that', async t => {
  const request = { what: 'copy', source: { domain: 'a', image: 'x.qcow2' }, target: { domain: 'b', image: 'y', allocation: 'sparse' }, chain: 'flat', verify: false, onExisting: 'refuse', ignoreSpace: false } as const
  const dropped = { snapshots: ['before'], bitmaps: ['daily'] }
  assertNothingLost({ ...request, refuseLoss: true }, {})
  assertNothingLost(request, { dropped })
  const detail = /x\.qcow2 would not have the internal snapshots before, nor the bitmaps daily\..*"refuseLoss"/
  t.throws(() => { assertNothingLost({ ...request, refuseLoss: true }, { dropped }) }, { code: 'would-lose-data', message: detail, members: dropped })
})
