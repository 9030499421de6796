/**
 * One at a time per volume, in the order of asking. A turn without a volume concerns all of them: it waits for every
 * turn before it, and every later one waits for it.
 */
export class Turns {
  readonly #last = new Map<string, Promise<void>>()
  #everybody: Promise<void> = Promise.resolve()

  /** Runs `work` when its turn has come. Rejects with the signal's reason when that is aborted before. */
  async take<T> (volume: string | undefined, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    const before = volume === undefined
      ? Promise.all([this.#everybody, ...this.#last.values()])
      : Promise.all([this.#everybody, this.#last.get(volume)])
    let finish = (): void => {}
    const finished = new Promise<void>(resolve => { finish = resolve })
    // Who gives up waiting must not let the next one in early.
    const turn = Promise.all([before, finished]).then(() => { this.#forget(volume, turn) })
    if (volume === undefined) this.#everybody = turn
    else this.#last.set(volume, turn)
    try {
      await abortable(before, signal)
      return await work()
    } finally {
      finish()
    }
  }

  #forget (volume: string | undefined, turn: Promise<void>): void {
    if (volume !== undefined && this.#last.get(volume) === turn) this.#last.delete(volume)
  }
}

/** Waits for the promise, or rejects with the signal's reason. */
async function abortable (promise: Promise<unknown>, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted()
  let stop = (): void => {}
  const aborted = new Promise<never>((_resolve, reject) => { stop = () => { reject(signal.reason) } })
  signal.addEventListener('abort', stop, { once: true })
  try {
    await Promise.race([promise, aborted])
  } finally {
    signal.removeEventListener('abort', stop)
  }
}
