import { styleText } from 'node:util'
import { escapeUnprintable, escapeUnprintableLines } from '../unprintable.ts'

/** Where something is written, and what is known about it. */
export interface Sink {
  write (text: string): unknown
  isTTY?: boolean
  columns?: number
  rows?: number
  hasColors? (): boolean
}

export type Style = 'bold' | 'dim' | 'green' | 'red' | 'yellow' | 'cyan'

/** Text in a colour. Colours are data until they are written, so that every escape sequence in a string is foreign. */
export interface Painted {
  readonly style: Style
  readonly text: string
}

/** A part of a line. */
export type Piece = string | Painted

/** Gives a text a colour. */
export function paint (style: Style, text: string): Painted {
  return { style, text }
}

/**
 * One line for a sink. What comes from images, other hosts and foreign servers is escaped: nothing in it steers the
 * terminal. Colours appear where a person sees them and has not set NO_COLOR, which `hasColors` knows.
 */
export function render (sink: Sink, pieces: readonly Piece[]): string {
  const colourful = sink.isTTY === true && sink.hasColors?.() === true
  return pieces.map(piece => {
    if (typeof piece === 'string') return escapeUnprintable(piece)
    const text = escapeUnprintable(piece.text)
    // validateStream would look at standard output, whatever the text is for
    return colourful ? styleText(piece.style, text, { validateStream: false }) : text
  }).join('')
}

const stateStyles: Readonly<Record<string, Style>> = {
  running: 'cyan',
  copying: 'cyan',
  pending: 'cyan',
  canceling: 'yellow',
  canceled: 'yellow',
  interrupted: 'yellow',
  stopped: 'yellow',
  unknown: 'yellow',
  unavailable: 'red',
  unresponsive: 'red',
  failed: 'red',
  rejected: 'red',
  illegal: 'red',
  succeeded: 'green',
  completed: 'green',
  available: 'green',
  ok: 'green'
}

/** Colours a state by what it means to the person in front. */
export function paintState (state: string): Piece {
  const style = Object.hasOwn(stateStyles, state) ? stateStyles[state] : undefined
  return style === undefined ? state : paint(style, state)
}

/** Standard output: results, for people or, with `--json`, for programs. */
export class Output {
  readonly sink: Sink

  constructor (sink: Sink) {
    this.sink = sink
  }

  line (...pieces: readonly Piece[]): void {
    this.sink.write(`${render(this.sink, pieces)}\n`)
  }

  /** Rows with aligned columns; the cells of a column named `state` have its colour. */
  table (heads: readonly string[], rows: ReadonlyArray<readonly string[]>): void {
    // before they are measured
    rows = rows.map(row => row.map(escapeUnprintable))
    const widths = heads.map((head, column) => Math.max(head.length, ...rows.map(row => row[column]?.length ?? 0)))
    const align = (cells: readonly string[], look: (text: string, column: number) => Piece) => cells.flatMap((cell, column) => {
      const isLast = column === cells.length - 1
      return [look(cell, column), isLast ? '' : ' '.repeat((widths[column] ?? 0) - cell.length + 2)]
    })
    this.line(...align(heads, head => paint('bold', head.toUpperCase())))
    for (const row of rows) this.line(...align(row, (cell, column) => heads[column] === 'state' ? paintState(cell) : cell))
  }

  /** Names and values, one a line; those without a value are left out. */
  fields (fields: ReadonlyArray<readonly [name: string, value: string | undefined]>): void {
    const width = Math.max(...fields.map(([name]) => name.length))
    for (const [name, value] of fields) {
      if (value !== undefined) this.line(paint('dim', name.padEnd(width)), '  ', name === 'state' ? paintState(value) : value)
    }
  }

  /** One JSON document, indented where a person sees it. */
  document (value: unknown): void {
    this.#json(JSON.stringify(value, undefined, this.sink.isTTY === true ? 2 : undefined))
  }

  /** One of several JSON documents, a line each. */
  record (value: unknown): void {
    this.#json(JSON.stringify(value))
  }

  /** JSON.stringify escapes C0 only; its own line feeds are those of the indentation. The values stay as they are. */
  #json (text: string): void {
    this.sink.write(`${escapeUnprintableLines(text)}\n`)
  }
}
