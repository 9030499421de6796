import t from 'tap'
import { OwnTexts } from '../../../src/storage/copy/own-texts.ts'

const found = async (texts: OwnTexts, text: string | undefined) => (await texts.isOurs(async () => text)).isOurs

t.test('the text that was written last is ours, and while another one is being written, that too', async t => {
  const texts = new OwnTexts('a')
  t.equal(await found(texts, 'a'), true)
  t.equal(await found(texts, undefined), false)
  texts.add('b')
  t.same([await found(texts, 'a'), await found(texts, 'b'), await found(texts, 'c')], [true, true, false])
  texts.settle('b')
  t.same([await found(texts, 'a'), await found(texts, 'b')], [false, true], 'an old one that is put back is not ours')
})

t.test('a look that began before finds what was there then, or anything since', async t => {
  const texts = new OwnTexts('a')
  const looks = ['a', 'b', 'c', 'd'].map(text => {
    let end = () => {}
    const wait = new Promise<void>(resolve => { end = resolve })
    return { end, result: texts.isOurs(async () => { await wait; return text }) }
  })
  for (const text of ['b', 'c']) {
    texts.add(text)
    texts.settle(text)
  }
  for (const { end } of looks) end()
  t.same((await Promise.all(looks.map(async ({ result }) => await result))).map(({ isOurs }) => isOurs), [true, true, true, false])
  t.same([await found(texts, 'a'), await found(texts, 'b'), await found(texts, 'c')], [false, false, true])
})

t.test('what could not be written may be there all the same', async t => {
  const texts = new OwnTexts('a')
  texts.add('b')
  t.same([await found(texts, 'a'), await found(texts, 'b')], [true, true])
  texts.add('c')
  texts.settle('c')
  t.same([await found(texts, 'a'), await found(texts, 'b'), await found(texts, 'c')], [false, false, true])
})

t.test('a look that fails is over', async t => {
  const texts = new OwnTexts('a')
  await t.rejects(texts.isOurs(async () => { throw new Error('EIO') }), { message: 'EIO' })
  texts.add('b')
  texts.settle('b')
  t.equal(await found(texts, 'a'), false)
})
