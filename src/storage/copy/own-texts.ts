/**
 * What the record of a copy may be on the storage while only its host writes it: the text that was written last, and
 * the one that is being written. Looks overlap with writes: one may find what was there when it began, or anything since.
 */
export class OwnTexts {
  /** The last one that is certainly there, or was, and those that came after it. */
  #texts: string[]
  /** Where in the list the last one is that is certainly there. */
  #written = 0
  #looks = 0

  constructor (text: string) {
    this.#texts = [text]
  }

  /** It is about to be written. From now on it may be there, also if that fails. */
  add (text: string): void {
    this.#texts.push(text)
  }

  /** It has been written. */
  settle (text: string): void {
    this.#written = this.#texts.lastIndexOf(text)
    this.#forget()
  }

  /** Looks, and tells of what was found whether it is ours. */
  async isOurs (look: () => Promise<string | undefined>): Promise<{ text: string | undefined, isOurs: boolean }> {
    this.#looks++
    try {
      const text = await look()
      return { text, isOurs: text !== undefined && this.#texts.includes(text) }
    } finally {
      this.#looks--
      this.#forget()
    }
  }

  #forget (): void {
    if (this.#looks > 0) return
    this.#texts = this.#texts.slice(this.#written)
    this.#written = 0
  }
}
