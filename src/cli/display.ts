import { percentOf, workOf } from '../client/progress.ts'
import type { Task } from '../client/types.ts'
import { drawBars, LiveLines } from './bars.ts'
import { render, type Sink } from './output.ts'
import { progressOf, subjectOf } from './words.ts'

/** Shows on standard error how far tasks are. Standard output is for what comes of them. */
export interface Display {
  show (task: Task): void
  /** The task has ended: nothing of it is shown any more. */
  remove (id: string): void
  /** Writes something else, to either stream, without a mess on the terminal. */
  aside (write: () => void): void
  /** Shows nothing until `resume`: the person is being asked. */
  pause (): void
  resume (): void
}

/** Live bars on a terminal, plain lines elsewhere. */
export function openDisplay (sink: Sink): Display {
  return sink.isTTY === true ? new Bars(sink) : new Lines(sink)
}

class Bars implements Display {
  readonly #sink: Sink
  readonly #live: LiveLines
  readonly #tasks = new Map<string, Task>()
  #paused = false

  constructor (sink: Sink) {
    this.#sink = sink
    this.#live = new LiveLines(sink)
  }

  show (task: Task): void {
    this.#tasks.set(task.id, task)
    this.#draw()
  }

  remove (id: string): void {
    this.#tasks.delete(id)
    this.#draw()
  }

  aside (write: () => void): void {
    this.#live.clear()
    write()
    this.#draw()
  }

  pause (): void {
    this.#paused = true
    this.#live.clear()
  }

  resume (): void {
    this.#paused = false
    this.#draw()
  }

  #draw (): void {
    if (this.#paused) return
    // a terminal that does not know its size says 0
    const columns = this.#sink.columns || 80
    const rows = this.#sink.rows || 24
    // room for the ^C that a terminal shows behind the last one, or it would break that line; and some break one that is full
    const bars = drawBars([...this.#tasks.values()], columns - 3)
    const more = bars.length - (rows - 1)
    this.#live.draw(more > 0 ? [...bars.slice(0, rows - 2), [`and ${more + 1} more`]] : bars)
  }
}

class Lines implements Display {
  readonly #sink: Sink
  readonly #last = new Map<string, string>()

  constructor (sink: Sink) {
    this.#sink = sink
  }

  /** Says what is new: another state or phase, another tenth, or a storage that does not answer. */
  show ({ id, runId, spec, state, progress }: Task): void {
    const { phase = '', stalledSince = '', stalledProcess } = progress ?? {}
    const work = progress === undefined ? undefined : workOf(progress)
    const tenth = work === undefined ? 0 : Math.floor(percentOf(work.done, work.total) / 10)
    const now = `${runId} ${state} ${phase} ${tenth} ${stalledSince} ${stalledProcess?.pid ?? ''}`
    if (this.#last.get(id) === now) return
    this.#last.set(id, now)
    const line = `${id}  ${subjectOf(spec)}  ${state}${progress === undefined ? '' : `, ${progressOf(progress)}`}`
    this.#sink.write(`${render(this.#sink, [line])}\n`)
  }

  remove (id: string): void {
    this.#last.delete(id)
  }

  aside (write: () => void): void {
    write()
  }

  pause (): void {}

  resume (): void {}
}
