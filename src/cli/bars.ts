import type { Task } from '../client/types.ts'
import { paint, type Sink } from './output.ts'
import { formatBytes, formatSeconds } from './units.ts'
import { percentOf, subjectOf } from './words.ts'

/** One line of exactly `width` columns or less: what it is about, the bar, and the numbers. */
export function drawBar (sink: Sink, { id, spec, state, progress }: Task, width: number): string {
  const { phase = 'copying', queuePosition, bytesTotal, bytesDone = 0, bytesPerSecond, etaSeconds, stalledSince } = progress ?? {}
  const label = shorten(`${id}  ${subjectOf(spec)}`, Math.max(Math.floor(width * 0.4), 12))
  if (state === 'canceling') return shorten(`${label}  stopping`, width)
  if (phase === 'queued') return shorten(`${label}  waits for its turn${queuePosition === undefined ? '' : `, number ${queuePosition}`}`, width)
  if (stalledSince !== undefined) return shorten(`${label}  the storage does not answer`, width)
  if (bytesTotal === undefined) return shorten(`${label}  ${state}`, width)
  const numbers = [
    `${String(percentOf(bytesDone, bytesTotal)).padStart(3)} %`,
    phase === 'verifying' ? 'verifying' : '',
    // columns that do not jump
    (bytesPerSecond === undefined ? '' : `${formatBytes(bytesPerSecond)}/s`).padStart(10),
    etaSeconds === undefined ? '' : `${formatSeconds(etaSeconds)} left`
  ].filter(part => part !== '').join('  ')
  const room = width - label.length - numbers.length - 4
  if (room < 5) return shorten(`${label}  ${numbers}`, width)
  const full = Math.floor(room * (bytesTotal === 0 ? 1 : bytesDone / bytesTotal))
  return `${label}  ${paint(sink, phase === 'verifying' ? 'green' : 'cyan', '█'.repeat(full))}${paint(sink, 'dim', '░'.repeat(room - full))}  ${numbers}`
}

function shorten (text: string, width: number): string {
  return text.length <= width ? text : `${text.slice(0, Math.max(width - 1, 0))}…`
}

/** The last lines of a terminal, which are drawn again and again. */
export class LiveLines {
  readonly #sink: Sink
  #drawn = 0

  constructor (sink: Sink) {
    this.#sink = sink
  }

  draw (lines: readonly string[]): void {
    // in one write, or it flickers; without a line break at the end, or the last line of the terminal scrolls
    this.#sink.write(this.#erasure() + lines.join('\n'))
    this.#drawn = lines.length
  }

  clear (): void {
    this.#sink.write(this.#erasure())
    this.#drawn = 0
  }

  /** To the beginning of the first line, and everything below is gone. */
  #erasure (): string {
    if (this.#drawn === 0) return ''
    return `\r${this.#drawn > 1 ? `\x1b[${this.#drawn - 1}A` : ''}\x1b[J`
  }
}
