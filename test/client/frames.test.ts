import t from 'tap'
import { parseFrames, type Frame } from '../../src/client/frames.ts'

async function framesOf (chunks: string[]): Promise<Frame[]> {
  const frames: Frame[] = []
  for await (const frame of parseFrames((async function * () { yield * chunks })())) frames.push(frame)
  return frames
}

t.test('frames are the same wherever their bytes are cut, with each kind of line break', async t => {
  const lines = ['retry: 2000', '', 'id: a-1', 'event: task', 'data: {"x":', 'data:1}', '', ':', 'id: a-2', '', ': comment', 'data', 'other: 1', '', 'id: lost at the end']
  const expected = [{ retryMs: 2000 }, { id: 'a-1', event: 'task', data: '{"x":\n1}' }, { id: 'a-2' }, { data: '' }]
  for (const lineBreak of ['\n', '\r\n', '\r']) {
    const text = lines.join(lineBreak)
    for (let size = 1; size < text.length; size++) {
      const chunks = Array.from({ length: Math.ceil(text.length / size) }, (_, index) => text.slice(index * size, (index + 1) * size))
      t.same(await framesOf(chunks), expected, `${JSON.stringify(lineBreak)}, ${size} at a time`)
    }
  }
})

t.test('an id with a null and a retry that is no number are left out', async t => {
  t.same(await framesOf(['id: a\0b\nretry: soon\nid: c\n\n', 'retry: 1.5\n\n']), [{ id: 'c' }, {}])
})

t.test('what JavaScript takes for the end of a line, and the standard does not, is part of it', async t => {
  const text = 'two\u2028or\u2029three\u0085lines\v\f'
  t.same(await framesOf([`id: ${text}\nevent: task\ndata: ${JSON.stringify({ text })}\n\n`]), [{ id: text, event: 'task', data: JSON.stringify({ text }) }])
})
