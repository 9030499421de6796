/** For how long a failure is the answer: as long as a caller who is told that it failed should wait before the next try. */
const failureMs = 1000

interface Look<T> {
  started: number
  value: Promise<T>
  state: 'running' | 'seen' | 'failed'
  ended: number
}

/** One look at a time, shared by all who ask while it lasts and for a while after: a thousand pollers cost one look. */
export class Snapshot<T> {
  readonly #look: () => Promise<T>
  readonly #maxAgeMs: number
  readonly #failureMs: number
  #current: Look<T> | undefined
  #last: T | undefined

  constructor (look: () => Promise<T>, maxAgeMs: number, keepFailureMs = failureMs) {
    this.#look = look
    this.#maxAgeMs = maxAgeMs
    this.#failureMs = keepFailureMs
  }

  /** What was seen at most `maxAgeMs` ago; or the failure of a look that ended a moment ago. */
  read (): Promise<T> {
    const current = this.#current
    if (current !== undefined) {
      const now = performance.now()
      if (current.state === 'failed' && now - current.ended < this.#failureMs) return current.value
      if (current.state !== 'failed' && now - current.started < this.#maxAgeMs) return current.value
      // begun too long ago: its beginning may be outdated when it ends. If it fails, so would the next: it is shared
      if (current.state === 'running') return current.value.then(() => this.read())
    }
    const next: Look<T> = { started: performance.now(), value: this.#look(), state: 'running', ended: 0 }
    this.#current = next
    const end = (state: 'seen' | 'failed') => () => { next.state = state; next.ended = performance.now() }
    next.value.then(end('seen'), end('failed'))
    next.value.then(value => { this.#last = value }, () => { /* what was seen before stays the last */ })
    return next.value
  }

  /** The same, but after `patienceMs` what `late` makes of what was seen last; undefined is what nobody has seen yet. */
  async readWithin (patienceMs: number, late: (last: T | undefined) => T): Promise<T> {
    const look = this.read()
    const last = this.#last
    let timer: NodeJS.Timeout | undefined
    const patience = new Promise<T>((resolve, reject) => {
      timer = setTimeout(() => {
        try {
          resolve(late(last))
        } catch (error) {
          reject(error)
        }
      }, patienceMs)
    })
    // one that fails after that is for whoever comes then
    look.catch(() => {})
    return await Promise.race([look, patience]).finally(() => { clearTimeout(timer) })
  }

  /** What was seen last, however long ago. */
  get last (): T | undefined {
    return this.#last
  }

  /** Something has changed: the next reader gets a new look, even while one is under way. */
  expire (): void {
    this.#current = undefined
  }
}
