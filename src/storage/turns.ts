/** Looks at a time: a domain may have thousands of images, and each look waits for the storage. */
const atOnce = 16

/** Does something for each, some of them at a time. */
export async function inTurns<T, R> (items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = []
  for (let at = 0; at < items.length; at += atOnce) results.push(...await Promise.all(items.slice(at, at + atOnce).map(work)))
  return results
}

/**
 * What `work` makes of the items, until there is enough of it; an item may give nothing, or several.
 *
 * @param progressed called again and again meanwhile.
 */
export async function firstOf<T, R> (items: readonly T[], count: number, work: (item: T) => Promise<readonly R[]>, progressed: () => void = () => {}): Promise<R[]> {
  const found: R[] = []
  for (let at = 0; at < items.length && found.length < count; at += atOnce) {
    found.push(...(await Promise.all(items.slice(at, at + atOnce).map(work))).flat())
    progressed()
  }
  return found.slice(0, count)
}
