import { batchBytes } from './channel.ts'
import type { Ring } from './ring.ts'
import type { Stream } from './stream.ts'

// ten thousand writes take a tenth of a second: other requests are served between
const turnMs = 4

// After a round comes a rest, so that events for thousands leave the loop to other work, and what happens meanwhile goes
// out in one write: under load an event costs less, not more. A small audience does not notice: its rounds take less
// than a millisecond. The longest rest is what a subscriber may wait at most for that.
const restShare = 1
const maxRestMs = 10

/** Gives everybody a turn when there is something new, in parts, and those who ask for one at once. */
export class Rounds {
  readonly #everybody: Set<Stream>
  readonly #ring: Ring
  readonly #asking = new Set<Stream>()
  #round: IterableIterator<Stream> | undefined
  #due = false
  #beganBehind = 0
  #tookMs = 0
  #endedAt = 0
  #rest: NodeJS.Timeout | undefined
  #scheduled = false

  constructor (everybody: Set<Stream>, ring: Ring) {
    this.#everybody = everybody
    this.#ring = ring
  }

  /** A round is due. */
  wakeAll (): void {
    this.#due = true
    if (this.#rest === undefined || this.#isUrgent()) this.#schedule()
  }

  /** One stream asks for its turn. */
  wake (stream: Stream): void {
    this.#asking.add(stream)
    this.#schedule()
  }

  leave (stream: Stream): void {
    this.#asking.delete(stream)
  }

  /** No round is due any more. */
  cancel (): void {
    this.#due = false
    clearTimeout(this.#rest)
    this.#rest = undefined
  }

  #schedule (): void {
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(() => { this.#turn() })
  }

  #turn (): void {
    this.#scheduled = false
    serve(this.#asking.values(), stream => { this.#asking.delete(stream) }, this.#asking.size)
    const now = performance.now()
    if (this.#round === undefined && this.#due) this.#begin(now)
    if (this.#round !== undefined) this.#continue(this.#round, now)
    if (this.#asking.size > 0 || this.#round !== undefined || (this.#due && this.#rest === undefined)) this.#schedule()
  }

  /** Begins a round, unless the last has not been rested from. */
  #begin (now: number): void {
    const restMs = this.#endedAt + Math.min(restShare * this.#tookMs, maxRestMs) - now
    if (restMs >= 1 && !this.#isUrgent()) {
      this.#rest ??= setTimeout(() => {
        this.#rest = undefined
        this.#schedule()
      }, restMs)
      return
    }
    this.cancel()
    this.#round = this.#everybody.values()
    this.#beganBehind = this.#ring.newest
    this.#tookMs = 0
  }

  /** Whether so much has gathered that a rest would make it wait for a second write, or be forgotten. */
  #isUrgent (): boolean {
    return !this.#ring.reaches(this.#beganBehind) || this.#ring.bytesSince(this.#beganBehind) >= batchBytes
  }

  #continue (round: IterableIterator<Stream>, now: number): void {
    const done = serve(round)
    const end = performance.now()
    this.#tookMs += end - now
    if (!done) return
    this.#round = undefined
    this.#endedAt = end
  }
}

/** Gives each stream its turn until the time is up; true if it sufficed. The iterator of a Set can be read on later, and sees who has left. */
function serve (streams: IterableIterator<Stream>, begin?: (stream: Stream) => void, atMost = Infinity): boolean {
  const now = performance.now()
  let served = 0
  for (const stream of streams) {
    begin?.(stream)
    stream.advance(now)
    // who asks again while he is served has his turn in the next
    if (++served >= atMost) return true
    // a write takes microseconds; to ask the clock after each would take a part of that
    if (served % 16 === 0 && performance.now() - now >= turnMs) return false
  }
  return true
}
