import t from 'tap'
import { all, count, only, parseXml, seconds, text, texts, uuid, UnexpectedOutput } from '../../src/gluster/xml.ts'
import { captures, outputOf } from './fixture.ts'

const frame = (inside: string): string => `<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n<cliOutput>${inside}</cliOutput>\n`

t.test('every capture that is XML is parsed, and every other one is refused', async t => {
  let parsed = 0
  for (const name of captures) {
    const output = outputOf(name)
    if (output.startsWith('<?xml')) {
      t.type(text(parseXml(output), 'opRet'), 'string', name)
      parsed++
    } else {
      t.throws(() => parseXml(output), UnexpectedOutput, name)
    }
  }
  t.ok(parsed > 140 && captures.length - parsed > 0, `${parsed} of ${captures.length} are XML`)
})

t.test('no beginning of a document is taken for a document', async t => {
  const output = outputOf('rebal-status-done')
  const whole = output.trimEnd().length
  for (let length = 0; length < whole; length++) {
    try {
      parseXml(output.slice(0, length))
      t.fail(`${length} characters of ${whole} were accepted`)
    } catch (error) {
      if (!(error instanceof UnexpectedOutput)) throw error
    }
  }
  t.ok(parseXml(output))
})

t.test('what is around or instead of the document is refused, with an excerpt', async t => {
  for (const output of ['', 'Connection failed.', frame('') + frame(''), `warning\n${frame('')}`, `${frame('')}warning`, '<other/>', '<cliOutput>text</cliOutput>', '\u0000', '<cliOutput><a></b></cliOutput>', '<cliOutput/>']) {
    t.throws(() => parseXml(output), UnexpectedOutput, JSON.stringify(output))
  }
  try {
    parseXml(`Connection\n failed. ${'x'.repeat(1000)}`)
  } catch (error) {
    t.match(error, { excerpt: /^Connection failed\. x{200,}\.\.\.$/ })
  }
})

t.test('a member that is missing, doubled or of another shape is refused', async t => {
  const root = parseXml(frame('<a>1</a><two>1</two><two>2</two><deep><b>x</b></deep><empty/>'))
  t.equal(text(root, 'a'), '1')
  t.equal(text(root, 'empty'), '')
  t.same(texts(root, 'two'), ['1', '2'])
  t.same(all(root, 'nothing'), [])
  t.equal(text(only(root, 'deep'), 'b'), 'x')
  t.same(only(root, 'empty').members, {})
  for (const name of ['two', 'deep', 'nothing', 'constructor', '__proto__', 'toString']) t.throws(() => text(root, name), UnexpectedOutput, name)
  for (const name of ['two', 'a', 'nothing', 'hasOwnProperty']) t.throws(() => only(root, name), UnexpectedOutput, name)
})

t.test('rubbish is never a number', async t => {
  const numberOf = (value: string): number => count(parseXml(frame(`<n>${value}</n>`)), 'n')
  t.equal(numberOf('0'), 0)
  t.equal(numberOf('9007199254740991'), Number.MAX_SAFE_INTEGER)
  for (const value of ['', '-1', '1.5', '1e3', '0x10', 'NaN', 'N/A', '12 34', '9007199254740993', '18446744073709551615', '1,000', '2.0GB', '<x/>']) {
    t.throws(() => numberOf(value), UnexpectedOutput, value)
  }
  const secondsOf = (value: string): number => seconds(parseXml(frame(`<n>${value}</n>`)), 'n')
  t.equal(secondsOf('12.50'), 12.5)
  for (const value of ['', '-1.00', '1e3', 'inf', '0:00:01', '1.']) t.throws(() => secondsOf(value), UnexpectedOutput, value)
})

t.test('ids are told from other text', async t => {
  const idOf = (value: string): string => uuid(parseXml(frame(`<id>${value}</id>`)), 'id')
  t.equal(idOf('A25688B9-2795-412f-b56b-667b23486dc8'), 'a25688b9-2795-412f-b56b-667b23486dc8')
  for (const value of ['', 'a25688b9', 'a25688b9-2795-412f-b56b-667b23486dc8x']) t.throws(() => idOf(value), UnexpectedOutput, value)
})

t.test('markup in values is text', async t => {
  t.equal(text(parseXml(frame('<v>{"a":"&lt;b&gt; &amp;amp; &quot;"}</v>')), 'v'), '{"a":"<b> &amp; ""}')
})

t.test('of what there should be one, there are not two', async t => {
  const two = parseXml(frame('<a><b>1</b></a><a><b>2</b></a>'))
  t.throws(() => only(two, 'a'), UnexpectedOutput)
  t.throws(() => only(two, 'c'), UnexpectedOutput)
  t.equal(all(two, 'a').length, 2)
  t.throws(() => text(parseXml(frame('<b>1</b><b>2</b>')), 'b'), UnexpectedOutput)
})
