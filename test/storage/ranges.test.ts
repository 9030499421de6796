import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { areRanges, intersect, normalize, overlapping, subtract, total, union, type Ranges } from '../../src/storage/ranges.ts'

const limit = 48

/** Any list of pairs: out of order, overlapping, empty, backwards. */
const pairs = fc.array(fc.tuple(fc.nat(limit), fc.nat(limit)), { maxLength: 12 })
const ranges = pairs.map(normalize)

/** The same thing as a set of numbers, which is slow and cannot be wrong. */
const numbers = (list: Ranges): Set<number> => new Set(list.flatMap(([start, end]) => Array.from({ length: Math.max(end - start, 0) }, (_, index) => start + index)))
const all = Array.from({ length: limit + 1 }, (_, number) => number)
const sorted = (set: Iterable<number>): number[] => [...set].sort((a, b) => a - b)

/** Sorted, none empty, none touching the next. */
const isCanonical = (list: Ranges): boolean => list.every(([start, end], index) => start < end && (index === 0 || (list[index - 1]?.[1] ?? Infinity) < start))

t.test('ranges agree with sets of numbers', async t => {
  t.doesNotThrow(() => {
    fc.assert(fc.property(pairs, list => {
      const result = normalize(list)
      assert.deepEqual(sorted(numbers(result)), sorted(numbers(list)))
      assert.ok(isCanonical(result))
    }))
  })
  t.doesNotThrow(() => {
    fc.assert(fc.property(ranges, ranges, (a, b) => {
      const inA = numbers(a)
      const inB = numbers(b)
      for (const [result, expected] of [
        [union(a, b), all.filter(number => inA.has(number) || inB.has(number))],
        [intersect(a, b), all.filter(number => inA.has(number) && inB.has(number))],
        [subtract(a, b), all.filter(number => inA.has(number) && !inB.has(number))]
      ] as const) {
        assert.deepEqual(sorted(numbers(result)), expected)
        assert.equal(total(result), expected.length)
        assert.ok(isCanonical(result))
      }
    }))
  })
})

t.test('those that overlap a range are found as by a look at all', async t => {
  t.doesNotThrow(() => {
    fc.assert(fc.property(ranges, fc.nat(limit), fc.nat(limit), (list, start, length) => {
      const range = [start, start + length + 1] as const
      assert.deepEqual(overlapping(list, range), list.filter(([from, to]) => from < range[1] && to > range[0]))
      assert.deepEqual(subtract([range], overlapping(list, range)), subtract([range], list))
    }))
  })
})

t.test('operations leave their arguments as they were', async t => {
  t.doesNotThrow(() => {
    fc.assert(fc.property(ranges, ranges, (a, b) => {
      const before = JSON.stringify([a, b])
      union(a, b)
      intersect(a, b)
      subtract(a, b)
      assert.equal(JSON.stringify([a, b]), before)
    }))
  })
})

t.test('offsets beyond 32 bits stay exact', async t => {
  const TiB = 2 ** 40
  t.same(union([[0, TiB]], [[TiB, 8 * TiB]]), [[0, 8 * TiB]])
  t.same(subtract([[0, Number.MAX_SAFE_INTEGER]], [[TiB, TiB + 1]]), [[0, TiB], [TiB + 1, Number.MAX_SAFE_INTEGER]])
  t.equal(total([[1, Number.MAX_SAFE_INTEGER]]), Number.MAX_SAFE_INTEGER - 1)
})

t.test('a list from elsewhere counts as ranges only when it is in order, apart, and within the size', async t => {
  t.doesNotThrow(() => { fc.assert(fc.property(ranges, list => { assert.ok(areRanges(list, limit)) })) })
  for (const [list, size, good] of [
    [[], 0, true],
    [[[0, 1]], 1, true],
    [[[0, 1], [2, 3]], 3, true],
    [[[0, 2]], 1, false],
    [[[0, 0]], 1, false],
    [[[1, 0]], 1, false],
    [[[2, 3], [0, 1]], 3, false],
    [[[0, 2], [1, 3]], 3, false],
    [[[0, 1], [1, 2]], 3, false],
    [[[-1, 1]], 3, false]
  ] as Array<[Ranges, number, boolean]>) t.equal(areRanges(list, size), good, JSON.stringify(list))
})
