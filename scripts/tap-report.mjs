/**
 * Makes tap's raw output short: one line for each test file, and below it what failed in it, with its whole diagnostics.
 *
 * tap's own reporters either redraw the screen, which fills a CI log with escape codes, or stay silent until the end, which does not tell
 * where a run hangs. The counts are tap's own, from its closing line; absent when tap did not come that far.
 */
export class TapReport {
  /** `{ total, pass, fail, skip, todo }`, or undefined before tap has closed. */
  counts
  /** How long each test file took, in milliseconds. */
  times = []
  #print
  #partial = ''
  /** The subtests that the current line is in, each with the number of failures known when it began. */
  #open = []
  /** The failures of the current file. One that only repeats a failure inside it has no path and is not told. */
  #failures = []
  /** The indentation of the last line if it was a test point: only there can diagnostics begin. Tests may print anything. */
  #pointIndent
  /** While in the diagnostics of a test point: their indentation, and where the lines go. */
  #diagnostics

  constructor (print) {
    this.#print = print
  }

  /** Takes the next piece of tap's raw output. */
  write (chunk) {
    const lines = (this.#partial + chunk).split('\n')
    this.#partial = lines.pop()
    for (const line of lines) this.#line(line)
  }

  /** The test file that tap is telling about: with several at a time it tells about one after the other. */
  get currentFile () {
    return this.#open[0]?.title ?? 'a file that has told nothing yet'
  }

  #line (line) {
    const indent = line.search(/\S|$/)
    const text = line.slice(indent)
    if (this.#inDiagnostics(line, text, indent)) return
    const pointIndent = this.#pointIndent
    this.#pointIndent = undefined
    const [, subtest] = /^# Subtest: (.*)/.exec(text) ?? []
    if (subtest !== undefined) this.#open.push({ title: subtest, indent, failuresBefore: this.#failures.length })
    else if (indent % 4 === 0 && /^(not )?ok \d/.test(text)) this.#point(text, indent)
    else if (text === '---' && pointIndent === indent - 2) {
      const failure = this.#failures.at(-1)
      this.#diagnostics = { indent, lines: failure?.indent === pointIndent ? failure.lines : [] }
    } else if (indent === 0) this.#closing(text)
  }

  #inDiagnostics (line, text, indent) {
    if (this.#diagnostics === undefined) return false
    const inside = text === '' || indent >= this.#diagnostics.indent
    const ends = text === '...' && indent === this.#diagnostics.indent
    if (inside && !ends) this.#diagnostics.lines.push(line.slice(this.#diagnostics.indent))
    else this.#diagnostics = undefined
    return inside
  }

  #point (text, indent) {
    const [, not, title, ms] = /^(not )?ok \d+(?: - )?(.*?)(?: # time=([\d.]+)ms)?$/.exec(text)
    const failed = not !== undefined && !/ # (todo|skip)\b/i.test(title)
    const ended = this.#open.at(-1)?.indent === indent ? this.#open.pop() : undefined
    this.#pointIndent = indent
    if (failed) {
      // A subtest fails because something in it did, which is told already; or by itself (a timeout, a crash), which is not.
      const toldInside = ended !== undefined && this.#failures.length > ended.failuresBefore
      this.#failures.push({ indent, lines: [], path: toldInside ? undefined : [...this.#open.map(({ title }) => title), title] })
    }
    if (indent === 0 && ms !== undefined) this.times.push({ title, ms: Math.round(ms) })
    if (indent === 0) this.#print(`${failed ? 'FAIL' : 'ok  '} ${title}${ms === undefined ? '' : ` (${Math.round(ms)} ms)`}`)
  }

  /** Lines without indentation are tap's own: what a test prints is indented by tap. */
  #closing (text) {
    const [, counts] = /^# \{ (total: .*) \}$/.exec(text) ?? []
    const bailedOut = text.startsWith('Bail out!')
    if ((text === '' && this.#open.length === 0) || counts !== undefined || bailedOut) this.#tellFailures()
    if (bailedOut) this.#print(text)
    if (counts !== undefined) {
      const pairs = counts.split(', ').map(entry => entry.split(': '))
      this.counts = { pass: 0, fail: 0, skip: 0, todo: 0, ...Object.fromEntries(pairs.map(([name, count]) => [name, Number(count)])) }
    }
  }

  #tellFailures () {
    for (const { path, lines } of this.#failures) {
      if (path !== undefined) this.#print(['', `  ${path.join(' > ')}`, ...lines.map(line => `    ${line}`), ''].join('\n'))
    }
    this.#failures = []
  }
}
