import { styleText } from 'node:util'

/** Where something is written, and what is known about it. */
export interface Sink {
  write (text: string): unknown
  isTTY?: boolean
  columns?: number
  rows?: number
  hasColors? (): boolean
}

export type Style = 'bold' | 'dim' | 'green' | 'red' | 'yellow' | 'cyan'

/** Colours text where a person sees it and has not set NO_COLOR, which `hasColors` knows. */
export function paint (sink: Sink, style: Style, text: string): string {
  // validateStream would look at standard output, whatever the text is for
  return sink.isTTY === true && sink.hasColors?.() === true ? styleText(style, text, { validateStream: false }) : text
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
export function paintState (sink: Sink, state: string): string {
  const style = stateStyles[state]
  return style === undefined ? state : paint(sink, style, state)
}

/** A text without control characters. */
function harmless (text: string): string {
  return text.replaceAll(/\p{Cc}/gu, '\u{fffd}')
}

/** Standard output: results, for people or, with `--json`, for programs. */
export class Output {
  readonly sink: Sink

  constructor (sink: Sink) {
    this.sink = sink
  }

  line (text: string): void {
    this.sink.write(`${text}\n`)
  }

  /** Rows with aligned columns; the cells of a column named `state` have its colour. */
  table (heads: readonly string[], rows: ReadonlyArray<readonly string[]>): void {
    // names come from a storage that others share: nothing in them may steer the terminal
    rows = rows.map(row => row.map(harmless))
    const widths = heads.map((head, column) => Math.max(head.length, ...rows.map(row => row[column]?.length ?? 0)))
    const align = (cells: readonly string[], look: (text: string, column: number) => string) =>
      cells.map((cell, column) => look(cell, column) + ' '.repeat(column === cells.length - 1 ? 0 : (widths[column] ?? 0) - cell.length)).join('  ')
    this.line(align(heads, head => paint(this.sink, 'bold', head.toUpperCase())))
    for (const row of rows) this.line(align(row, (cell, column) => heads[column] === 'state' ? paintState(this.sink, cell) : cell))
  }

  /** Names and values, one a line; those without a value are left out. */
  fields (fields: ReadonlyArray<readonly [name: string, value: string | undefined]>): void {
    const width = Math.max(...fields.map(([name]) => name.length))
    for (const [name, value] of fields) {
      if (value !== undefined) this.line(`${paint(this.sink, 'dim', name.padEnd(width))}  ${name === 'state' ? paintState(this.sink, value) : harmless(value)}`)
    }
  }

  /** One JSON document, indented where a person sees it. */
  document (value: unknown): void {
    this.line(JSON.stringify(value, undefined, this.sink.isTTY === true ? 2 : undefined))
  }

  /** One of several JSON documents, a line each. */
  record (value: unknown): void {
    this.line(JSON.stringify(value))
  }
}
