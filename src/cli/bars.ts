import { percentOf, stalledWords, workOf } from '../client/progress.ts'
import type { Task } from '../client/types.ts'
import { escapeUnprintable } from '../unprintable.ts'
import { paint, render, type Piece, type Sink } from './output.ts'
import { formatBytes, formatSeconds } from './units.ts'
import { subjectOf } from './words.ts'

/** The least that is worth to be called a bar. */
const leastRoom = 8

/** Lines of `width` columns or less, below each other: what each is about, the bar, and the numbers. */
export function drawBars (tasks: readonly Task[], width: number): Piece[][] {
  // escaped before they are measured
  const ids = tasks.map(({ id }) => escapeUnprintable(id))
  const labels = tasks.map(({ id, spec }) => escapeUnprintable(`${id}  ${subjectOf(spec)}`))
  const longest = Math.max(0, ...labels.map(({ length }) => length))
  return tasks.map((task, index) => {
    const [id = '', text = ''] = [ids[index], labels[index]]
    const words = wordsInsteadOfBar(task)
    if (words !== undefined) return [shorten(`${shorten(text, Math.max(width - words.length - 2, 12))}  ${words}`, width)]
    // what is least missed goes first where there is little room
    for (const [labelWidth, withRate, withEstimate] of [
      [Math.min(longest, Math.floor(width * 0.45)), true, true],
      [Math.min(longest, Math.floor(width * 0.35)), true, true],
      [Math.min(id.length, 16), true, true],
      [Math.min(id.length, 16), true, false],
      [Math.min(id.length, 12), false, false]
    ] as const) {
      const label = shorten(labelWidth > id.length ? text : id, labelWidth).padEnd(labelWidth)
      const numbers = numbersOf(task, withRate, withEstimate)
      const room = width - label.length - numbers.length - 4
      if (room >= leastRoom) return [`${label}  `, ...barOf(task, room), `  ${numbers}`]
    }
    return [shorten(`${id}  ${numbersOf(task, false, false).trim()}`, width)]
  })
}

function wordsInsteadOfBar ({ state, progress }: Task): string | undefined {
  if (state === 'canceling') return 'stopping'
  if (progress?.phase === 'queued') return `waits for its turn${progress.queuePosition === undefined ? '' : `, number ${progress.queuePosition}`}`
  const stalled = progress === undefined ? undefined : stalledWords(progress)
  return stalled ?? (progress?.bytesTotal === undefined ? escapeUnprintable(state) : undefined)
}

/** In columns that do not jump. */
function numbersOf ({ progress }: Task, withRate: boolean, withEstimate: boolean): string {
  const { phase, bytesPerSecond, etaSeconds } = progress ?? {}
  const { done, total } = workIn(progress)
  return [
    `${String(percentOf(done, total)).padStart(3)} %`,
    ...phase === 'verifying' ? ['verifying'] : [],
    ...withRate ? [(bytesPerSecond === undefined ? '' : `${formatBytes(bytesPerSecond)}/s`).padStart(10)] : [],
    ...withEstimate ? [(etaSeconds === undefined ? '' : `${formatSeconds(etaSeconds)} left`).padEnd(16)] : []
  ].join('  ')
}

function workIn (progress: Task['progress']): { done: number, total: number } {
  return (progress === undefined ? undefined : workOf(progress)) ?? { done: 0, total: 0 }
}

function barOf ({ progress }: Task, room: number): Piece[] {
  const { phase } = progress ?? {}
  const { done, total } = workIn(progress)
  const full = Math.floor(room * (total === 0 ? 1 : done / total))
  return [paint(phase === 'verifying' ? 'green' : 'cyan', '█'.repeat(full)), paint('dim', '░'.repeat(room - full))]
}

function shorten (text: string, width: number): string {
  return text.length <= width ? text : `${text.slice(0, Math.max(width - 1, 0))}…`
}

/** For measuring: colours take no room. */
const colourless: Sink = { write: () => {} }

/** The last lines of a terminal, which are drawn again and again. */
export class LiveLines {
  readonly #sink: Sink
  /** How many columns each line has taken. */
  #drawn: number[] = []

  constructor (sink: Sink) {
    this.#sink = sink
  }

  draw (lines: ReadonlyArray<readonly Piece[]>): void {
    // in one write, or it flickers; without a line break at the end, or the last line of the terminal scrolls
    this.#sink.write(this.#erasure() + lines.map(line => render(this.#sink, line)).join('\n'))
    this.#drawn = lines.map(line => render(colourless, line).length)
  }

  clear (): void {
    this.#sink.write(this.#erasure())
    this.#drawn = []
  }

  /** To the beginning of the first line, row by row: a terminal may keep what is erased below its top row for scrolling back. */
  #erasure (): string {
    if (this.#drawn.length === 0) return ''
    // a terminal that was made narrower since has broken them
    const columns = this.#sink.columns || 80
    const above = this.#drawn.reduce((rows, length) => rows + Math.max(Math.ceil(length / columns), 1), -1)
    return `\r\x1b[2K${'\x1b[1A\x1b[2K'.repeat(above)}`
  }
}
