import t from 'tap'
import { Output, paint, paintState, render, type Sink } from '../../src/cli/output.ts'

/** What terminals obey, and what readers do not see: C0, DEL, C1, bidi, invisible. */
const attack = '\u001b]0;owned\u0007\u001b[2J\r\n\u007f\u009b31m\u202egnp.\u2066\u061c\u200f\ufeff\u2028\u2029\ud800'
const raw = /[^\x20-\x7e]/

function terminal (): { sink: Sink, text: () => string } {
  let text = ''
  return { sink: { isTTY: true, hasColors: () => true, write: (more: string) => { text += more } }, text: () => text }
}

t.test('nothing of a hostile text reaches the terminal raw, whichever way it is printed', async t => {
  const { sink, text } = terminal()
  const out = new Output({ ...sink, hasColors: () => false })
  out.line(attack, paint('red', attack), paintState(attack))
  out.table(['name', 'state'], [[attack, attack]])
  out.fields([['name', attack], ['state', attack]])
  out.record({ [attack]: attack })
  out.document([attack])
  const lines = text().split('\n')
  t.equal(lines.length, 1 + 2 + 2 + 1 + 3 + 1, 'and it makes no line of its own')
  t.strictSame(lines.filter(line => raw.test(line)), [])
})

t.test('only colours of our own are sequences', async t => {
  const { sink } = terminal()
  t.equal(render(sink, ['\u001b[31m', paint('red', 'a\u001b[0mb'), ' c']), '\\u001b[31m\u001b[31ma\\u001b[0mb\u001b[39m c')
  t.equal(render({ write: () => {} }, [paint('red', 'a'), ' c']), 'a c')
  t.equal(paintState('constructor'), 'constructor')
})

t.test('JSON that is printed has the values that it was made from', async t => {
  for (const isTTY of [true, false]) {
    let text = ''
    const out = new Output({ isTTY, write: (more: string) => { text += more } })
    out.document({ name: attack, [attack]: [attack] })
    t.notMatch(text.replaceAll('\n', ''), raw)
    t.strictSame(JSON.parse(text), { name: attack, [attack]: [attack] })
  }
})

t.test('columns are aligned by what is shown', async t => {
  let text = ''
  new Output({ write: (more: string) => { text += more } }).table(['name', 'size'], [['a\u0007', '1'], ['bbb', '2']])
  t.equal(text, 'NAME     SIZE\na\\u0007  1\nbbb      2\n')
})
