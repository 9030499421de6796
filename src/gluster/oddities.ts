import { UnexpectedOutput, type Element } from './xml.ts'

/** Reads what can be read of an answer, and keeps in mind what stood against the rest: one odd value spoils one value. */
export class Oddities {
  readonly #found: UnexpectedOutput[] = []

  /** What `read` returns, or `instead` when the output is not as expected. */
  or<T> (read: () => T, instead: T): T {
    try {
      return read()
    } catch (error) {
      if (!(error instanceof UnexpectedOutput)) throw error
      this.#found.push(error)
      return instead
    }
  }

  /** Those of the elements that can be read. */
  each<T> (elements: readonly Element[], read: (element: Element) => T): T[] {
    return elements.flatMap(element => this.or(() => [read(element)], []))
  }

  /** Something was read that must not be taken as it is. */
  add (oddity: UnexpectedOutput): void {
    this.#found.push(oddity)
  }

  /** What could not be read, with an excerpt, as a member; none when all could. */
  get told (): { problem?: string } {
    const [first, ...others] = this.#found
    if (first === undefined) return {}
    const more = others.length === 0 ? '' : ` (and ${others.length} more)`
    return { problem: `${first.message}${more}. It reads: ${first.excerpt}` }
  }
}
