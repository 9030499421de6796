import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import type { Extent as MapExtent } from '../../../src/qemu/map.ts'
import { intersect, normalize, subtract, total, union, type Ranges } from '../../../src/storage/ranges.ts'
import { cutWindow, planChunk, type WindowRanges } from '../../../src/storage/copy/windows.ts'

const align = 4

type Extent = Pick<MapExtent, 'start' | 'length' | 'zero'>

/** A disk of up to 200 bytes: extents back to back from 0, as `qemu-img map` tells them. */
const disk = fc.tuple(
  fc.array(fc.record({ length: fc.integer({ min: 1, max: 20 }), zero: fc.boolean() }), { maxLength: 12 }),
  fc.boolean()
).map(([parts]) => {
  let start = 0
  const extents: Extent[] = parts.map(({ length, zero }) => {
    const extent = { start, length, zero }
    start += length
    return extent
  })
  return { extents, size: start }
})

/** Ranges whose borders are where borders of windows can be. */
const alignedRanges = (size: number) => fc.array(fc.tuple(fc.nat(Math.ceil(size / align)), fc.nat(Math.ceil(size / align))), { maxLength: 4 })
  .map(list => normalize(list.map(([a, b]) => [Math.min(a, b) * align, Math.min(Math.max(a, b) * align, size)] as const)))

const situation = disk.chain(({ extents, size }) => fc.record({
  extents: fc.constant(extents),
  size: fc.constant(size),
  done: alignedRanges(size),
  begun: alignedRanges(size),
  windowBytes: fc.integer({ min: 1, max: 100 }),
  longGap: fc.integer({ min: 1, max: 50 }),
  // up to the whole disk: a window then goes over several ranges
  chunkBytes: fc.integer({ min: 1, max: 50 }).map(count => count * align)
}))

const dataOf = (extents: readonly Extent[]): Ranges => normalize(extents.filter(({ zero }) => !zero).map(({ start, length }) => [start, start + length]))

/** Plans a whole disk as the worker does: chunk by chunk, window by window. */
function plan ({ extents, size, done, begun, windowBytes, longGap, chunkBytes }: { extents: Extent[], size: number, done: Ranges, begun: Ranges, windowBytes: number, longGap: number, chunkBytes: number }) {
  const windows: WindowRanges[] = []
  let zero: Ranges = []
  const data = dataOf(extents)
  for (let at = 0; at < size; at += chunkBytes) {
    const chunk: Ranges = [[at, Math.min(at + chunkBytes, size)]]
    const todo = subtract(chunk, done)
    const within = extents.flatMap(({ start, length, zero }) => intersect([[start, start + length]], chunk).map(([from, to]) => ({ start: from, length: to - from, zero })))
    const planned = planChunk(todo, within, intersect(begun, todo), align)
    zero = union(zero, planned.zero)
    for (let copy = planned.copy; ;) {
      const cut = cutWindow(copy, { data, begun, done }, windowBytes, align, longGap)
      if (cut === undefined) break
      windows.push(cut.window)
      begun = union(begun, cut.window.writes)
      copy = cut.rest
    }
  }
  return { windows, zero }
}

t.test('every byte is settled once: done before, copied, or zero and never touched', async t => {
  t.doesNotThrow(() => {
    fc.assert(fc.property(situation, of => {
      const { windows, zero } = plan(of)
      const copied = windows.map(({ start, end }) => [start, end] as const)
      assert.equal(total(normalize(copied)), total(copied), 'no two windows overlap')
      assert.deepEqual(union(of.done, union(normalize(copied), zero)), of.size === 0 ? [] : [[0, of.size]])
      assert.deepEqual(intersect(normalize(copied), of.done), [], 'what is done is not copied again')
      const data = dataOf(of.extents)
      assert.deepEqual(subtract(data, union(of.done, normalize(copied))), [], 'all data is done or copied')
      assert.deepEqual(intersect(subtract(zero, normalize(copied)), union(of.begun, data)), [], 'nothing counts as zero that has data or was begun')
    }), { numRuns: 1000 })
  })
})

t.test('windows begin and end at multiples of the alignment, or at the end of the disk', async t => {
  t.doesNotThrow(() => {
    fc.assert(fc.property(situation, of => {
      for (const { start, end } of plan(of).windows) {
        assert.equal(start % align, 0)
        assert.ok(end % align === 0 || end === of.size)
        assert.ok(start < end)
      }
    }))
  })
})

t.test('a window that was begun in any part is never called fresh', async t => {
  t.doesNotThrow(() => {
    fc.assert(fc.property(situation, of => {
      let begun = of.begun
      for (const { start, end, fresh, writes } of plan(of).windows) {
        assert.equal(fresh, total(intersect([[start, end]], begun)) === 0)
        begun = union(begun, writes)
      }
    }))
  })
})

t.test('what a window skips has no data and was never begun, and a window that skips is fresh', async t => {
  t.doesNotThrow(() => {
    fc.assert(fc.property(situation, of => {
      for (const { start, end, fresh, writes } of plan(of).windows) {
        const skipped = subtract([[start, end]], writes)
        assert.deepEqual(intersect(skipped, union(dataOf(of.extents), of.begun)), [])
        assert.ok(fresh || skipped.length === 0)
        assert.equal(writes[0]?.[0], start)
        assert.equal(writes.at(-1)?.[1], end)
      }
    }), { numRuns: 1000 })
  })
})

t.test('a window has about the bytes it was asked for: at most what the alignment adds', async t => {
  t.doesNotThrow(() => {
    fc.assert(fc.property(situation, of => {
      for (const { start, end, copyBytes, dataBytes } of plan(of).windows) {
        assert.ok(copyBytes < of.windowBytes + align)
        assert.ok(copyBytes > 0 && copyBytes <= end - start)
        assert.equal(dataBytes, total(intersect([[start, end]], dataOf(of.extents))))
      }
    }), { numRuns: 1000 })
  })
})

t.test('a short gap of zeros is written with its window, a long one is skipped, and ends it where anything was begun', async t => {
  const MiB = 1024 * 1024
  const cut = (gapBytes: number, begun: Ranges = []) => cutWindow([[0, MiB], [MiB + gapBytes, 2 * MiB + gapBytes]], { data: [[0, MiB]], begun, done: [] }, 64 * MiB, MiB)?.window
  t.same(cut(63 * MiB), { start: 0, end: 65 * MiB, copyBytes: 2 * MiB, dataBytes: MiB, fresh: true, writes: [[0, 65 * MiB]] })
  t.same(cut(64 * MiB), { start: 0, end: 66 * MiB, copyBytes: 2 * MiB, dataBytes: MiB, fresh: true, writes: [[0, MiB], [65 * MiB, 66 * MiB]] })
  t.match(cut(64 * MiB, [[MiB, 2 * MiB]]), { end: MiB, fresh: true }, 'nor over what was begun')
  t.match(cut(64 * MiB, [[65 * MiB, 66 * MiB]]), { end: MiB, fresh: true })
  t.match(cut(63 * MiB, [[65 * MiB, 66 * MiB]]), { end: 65 * MiB, fresh: true })
  const many: Ranges = Array.from({ length: 100 }, (_, index) => [index * 100 * MiB, (index * 100 + 1) * MiB])
  const { window, rest } = cutWindow(many, { data: many, begun: [], done: [] }, 1000 * MiB, MiB) ?? {}
  t.match([window?.writes.length, rest?.length], [64, 36], 'the record that names them stays small')
})

t.test('a gap that is done ends a window, however short it is', async t => {
  const MiB = 1024 * 1024
  t.same(cutWindow([[0, MiB], [2 * MiB, 3 * MiB]], { data: [[0, 3 * MiB]], begun: [[0, 3 * MiB]], done: [[MiB, 2 * MiB]] }, 64 * MiB, MiB), {
    window: { start: 0, end: MiB, copyBytes: MiB, dataBytes: MiB, fresh: false, writes: [[0, MiB]] },
    rest: [[2 * MiB, 3 * MiB]]
  })
})

t.test('an alternation of done and not done windows copies none of the done ones', async t => {
  const done: Ranges = Array.from({ length: 20 }, (_, index) => [index * 8, index * 8 + 4])
  const { windows } = plan({ extents: [{ start: 0, length: 160, zero: false }], size: 160, done, begun: [[0, 160]], windowBytes: 1000, longGap: 1000, chunkBytes: 160 })
  t.equal(windows.length, 20)
  t.equal(windows.reduce((sum, { start, end }) => sum + end - start, 0), 80)
})
