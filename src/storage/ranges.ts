/** Half-open ranges of bytes `[start, end)`, sorted, none touching another. */
export type Ranges = ReadonlyArray<readonly [start: number, end: number]>

/** How many bytes the ranges cover. */
export function total (ranges: Ranges): number {
  return ranges.reduce((sum, [start, end]) => sum + end - start, 0)
}

/** Puts any ranges in order and joins what touches. */
export function normalize (ranges: Ranges): Ranges {
  const joined: Array<[number, number]> = []
  for (const [start, end] of ranges.toSorted((a, b) => a[0] - b[0])) {
    if (start >= end) continue
    const last = joined.at(-1)
    if (last !== undefined && start <= last[1]) last[1] = Math.max(last[1], end)
    else joined.push([start, end])
  }
  return joined
}

/** What is in either. */
export function union (a: Ranges, b: Ranges): Ranges {
  return normalize([...a, ...b])
}

/** What is in both. */
export function intersect (a: Ranges, b: Ranges): Ranges {
  const result: Array<[number, number]> = []
  for (let i = 0, j = 0; i < a.length && j < b.length;) {
    const [aStart, aEnd] = a[i] ?? [0, 0]
    const [bStart, bEnd] = b[j] ?? [0, 0]
    const start = Math.max(aStart, bStart)
    const end = Math.min(aEnd, bEnd)
    if (start < end) result.push([start, end])
    if (aEnd < bEnd) i++
    else j++
  }
  return result
}

/** What is in the first and not in the second. */
export function subtract (a: Ranges, b: Ranges): Ranges {
  const result: Array<[number, number]> = []
  for (const [start, end] of a) {
    let from = start
    for (const [bStart, bEnd] of b) {
      if (bEnd <= from) continue
      if (bStart >= end) break
      if (bStart > from) result.push([from, bStart])
      from = bEnd
    }
    if (from < end) result.push([from, end])
  }
  return result
}

/** Whether a list read from somewhere is what this type promises, within a size. */
export function areRanges (ranges: Ranges, size: number): boolean {
  let last = -1
  return ranges.every(([start, end]) => {
    const fits = start > last && start < end && end <= size
    last = end
    return fits
  })
}
