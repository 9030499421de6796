import type { Subject } from './ring.ts'

interface Numbers extends Subject {
  readonly key: string
  readonly frame: Buffer
  readonly tick: number
  older: Numbers | undefined
  newer: Numbers | undefined
}

/**
 * The newest numbers of everything that moves, ordered by age. As with the ring, a subscriber only remembers how far it
 * has read: whoever reads late finds the newest alone, and nothing has to be dropped for him.
 */
export class Latest {
  readonly #byKey = new Map<string, Numbers>()
  #newest: Numbers | undefined
  #tick = 0

  /** Counts everything that was ever set. */
  get tick (): number { return this.#tick }

  set (key: string, subject: Subject, frame: Buffer): void {
    this.delete(key)
    const numbers: Numbers = { ...subject, key, frame, tick: ++this.#tick, older: this.#newest, newer: undefined }
    if (this.#newest !== undefined) this.#newest.newer = numbers
    this.#newest = numbers
    this.#byKey.set(key, numbers)
  }

  /** Numbers that a transition has made pointless are never sent again. */
  delete (key: string): void {
    const numbers = this.#byKey.get(key)
    if (numbers === undefined) return
    this.#byKey.delete(key)
    if (numbers.older !== undefined) numbers.older.newer = numbers.newer
    if (numbers.newer !== undefined) numbers.newer.older = numbers.older
    else this.#newest = numbers.older
  }

  /** The frames set after `tick`, oldest first, of what `passes`. Costs no more than what it returns was worth. */
  read (tick: number, passes: (subject: Subject) => boolean): Buffer[] {
    const frames: Buffer[] = []
    for (let at = this.#newest; at !== undefined && at.tick > tick; at = at.older) {
      if (passes(at)) frames.push(at.frame)
    }
    return frames.reverse()
  }
}
