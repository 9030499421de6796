import { stripVTControlCharacters } from 'node:util'
import t from 'tap'
import { drawBars, LiveLines } from '../../src/cli/bars.ts'
import { render, type Sink } from '../../src/cli/output.ts'
import type { Progress, Task } from '../../src/client/types.ts'

function taskWith (progress?: Progress, more: Partial<Task> = {}): Task {
  return {
    id: 'nightly-42',
    runId: 'r',
    kind: 'storage.copyImage',
    spec: { kind: 'storage.copyImage', source: { domain: 'local', image: 'a.raw' }, target: { domain: 'local', image: 'b.raw' } },
    specDigest: '',
    state: 'running',
    cancelable: true,
    createdAt: '',
    revision: 1,
    tick: 1,
    instance: 'i',
    ...progress !== undefined && { progress },
    ...more
  }
}

const plain: Sink = { write: () => {} }
const drawAll = (sink: Sink, tasks: Task[], width: number) => drawBars(tasks, width).map(line => render(sink, line))
const drawBar = (sink: Sink, task: Task, width: number) => drawAll(sink, [task], width)[0] ?? ''
const half: Progress = { phase: 'copying', bytesTotal: 2 ** 30, bytesDone: 2 ** 29, bytesPerSecond: 2 ** 20, etaSeconds: 512 }

t.test('a bar shows how much is done, the rate and the estimate, and fits', async t => {
  const bar = drawBar(plain, taskWith(half), 99)
  t.match(bar, /^nightly-42 {2}local\/a\.raw -> local\/b\.raw {2}█+░+ {2} 50 % {5}1 MiB\/s {2}8 min 32 s left *$/)
  t.equal(bar.length, 99)
  t.equal(bar.match(/█/g)?.length, Math.floor((bar.match(/[█░]/g)?.length ?? 0) / 2))
  for (let width = 1; width < 200; width++) t.ok(drawBar(plain, taskWith(half), width).length <= width, `${width} columns`)
})

t.test('with little room the bar stays, and what is least missed goes first', async t => {
  const bar = (width: number) => drawBar(plain, taskWith(half), width)
  t.match(bar(76), /^nightly-42 {2}loc.*… {2}█+░+ {2} 50 % {5}1 MiB\/s {2}8 min 32 s left/)
  t.match(bar(60), /^nightly-42 {2}█+░+ {2} 50 % {5}1 MiB\/s {2}8 min 32 s left/)
  t.match(bar(44), /^nightly-42 {2}█+░+ {2} 50 % {5}1 MiB\/s$/)
  t.match(bar(30), /^nightly-42 {2}█+░+ {2} 50 %$/)
  t.match(bar(20), /^nightly-42 {2}50 %$/)
  for (let width = 30; width < 200; width++) t.ok((bar(width).match(/[█░]/g)?.length ?? 0) >= 8, `${width} columns`)
})

t.test('bars below each other begin and end in the same columns', async t => {
  const [first = '', second = ''] = drawAll(plain, [taskWith({ ...half, etaSeconds: 5 }), taskWith(half, { id: 'a' })], 110)
  t.equal(first.search(/[█░]/), second.search(/[█░]/))
  t.equal(first.search(/ \d+ %/), second.search(/ \d+ %/))
})

t.test('what has no numbers yet is said in words', async t => {
  t.match(drawBar(plain, taskWith(), 99), /running$/)
  t.match(drawBar(plain, taskWith({ phase: 'queued', queuePosition: 3 }), 99), /waits for its turn, number 3$/)
  t.match(drawBar(plain, taskWith(half, { state: 'canceling' }), 99), /stopping$/)
  t.match(drawBar(plain, taskWith({ ...half, stalledSince: '2026-01-01T00:00:00Z' }), 99), /the storage does not answer$/)
  t.match(drawBar(plain, taskWith({ ...half, phase: 'verifying' }), 99), /verifying/)
  t.match(drawBar(plain, taskWith({ phase: 'copying', bytesTotal: 0, bytesDone: 0 }), 99), /█ {2}100 %/)
})

t.test('colours appear on a terminal that has them, and change no width', async t => {
  const colourful: Sink = { write: () => {}, isTTY: true, hasColors: () => true }
  t.match(drawBar(colourful, taskWith(half), 99), /\x1b\[36m█/) // eslint-disable-line no-control-regex
  t.equal(stripVTControlCharacters(drawBar(colourful, taskWith(half), 99)), drawBar(plain, taskWith(half), 99))
  t.equal(drawBar({ ...colourful, hasColors: () => false }, taskWith(half), 99), drawBar(plain, taskWith(half), 99))
})

t.test('lines that are drawn again take the place of the last ones', async t => {
  const written: string[] = []
  const live = new LiveLines({ write: text => { written.push(text) } })
  live.draw([['a'], ['b'], ['c']])
  live.draw([['d']])
  live.clear()
  live.draw([])
  t.same(written, ['a\nb\nc', '\r\x1b[2K\x1b[1A\x1b[2K\x1b[1A\x1b[2Kd', '\r\x1b[2K', ''])
})

t.test('lines that a narrower terminal has broken are taken away whole', async t => {
  const written: string[] = []
  const sink = { columns: 100, isTTY: true, hasColors: () => true, write: (text: string) => { written.push(text) } }
  const live = new LiveLines(sink)
  live.draw([['a'.repeat(97)], [{ style: 'cyan', text: 'b' }]])
  sink.columns = 40
  live.clear()
  t.equal(written.at(-1), `\r\x1b[2K${'\x1b[1A\x1b[2K'.repeat(3)}`, 'three rows of the first, one of the second')
})
