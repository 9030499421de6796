/** A first-in first-out gate that lets a limited number through at a time. */
export class Queue<Entry> {
  readonly #limit: number
  readonly #inside = new Set<Entry>()
  // a Map keeps the order and forgets in constant time
  readonly #waiting = new Map<Entry, () => void>()

  constructor (limit: number) {
    this.#limit = limit
  }

  get waiting (): Iterable<Entry> {
    return this.#waiting.keys()
  }

  /** Calls `begin` at once if there is room, otherwise when there is. */
  enter (entry: Entry, begin: () => void): void {
    this.#waiting.set(entry, begin)
    this.#admit()
  }

  /** Takes the entry out, wherever it is. Returns whether it was still waiting. */
  leave (entry: Entry): boolean {
    const wasWaiting = this.#waiting.delete(entry)
    this.#inside.delete(entry)
    this.#admit()
    return wasWaiting
  }

  #admit (): void {
    for (const [entry, begin] of this.#waiting) {
      if (this.#inside.size >= this.#limit) return
      this.#waiting.delete(entry)
      this.#inside.add(entry)
      begin()
    }
  }
}
