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
  let first = 0
  for (const [start, end] of a) {
    // what lies before one range lies before all that follow
    while ((b[first]?.[1] ?? Infinity) <= start) first++
    let from = start
    for (let next = first; next < b.length; next++) {
      const [bStart, bEnd] = b[next] ?? [end, end]
      if (bStart >= end) break
      if (bStart > from) result.push([from, bStart])
      from = Math.max(from, bEnd)
    }
    if (from < end) result.push([from, end])
  }
  return result
}

/** Those that have something of a range, found without a look at all of them. */
export function overlapping (ranges: Ranges, [start, end]: Ranges[number]): Ranges {
  const indexOf = (isBefore: (range: Ranges[number]) => boolean): number => {
    let [low, high] = [0, ranges.length]
    while (low < high) {
      const middle = (low + high) >>> 1
      const range = ranges[middle]
      if (range !== undefined && isBefore(range)) low = middle + 1
      else high = middle
    }
    return low
  }
  return ranges.slice(indexOf(([, rangeEnd]) => rangeEnd <= start), indexOf(([rangeStart]) => rangeStart < end))
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
