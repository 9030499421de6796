import t from 'tap'
import { wholeBlocks } from '../../src/storage/whole-blocks.ts'

t.test('sizes are rounded up to 4 KiB', t => {
  const largest = 2 ** 53 - 4096
  const cases: ReadonlyArray<[bytes: number, whole: number]> = [[0, 0], [1, 4096], [4096, 4096], [4097, 8192], [largest - 512, largest], [largest, largest]]
  for (const [bytes, whole] of cases) t.equal(wholeBlocks(bytes), whole, `${bytes}`)
  t.end()
})

t.test('a size that a number could not hold is refused, with what to do', t => {
  for (const bytes of [2 ** 53 - 4095, 2 ** 53 - 512]) t.throws(() => wholeBlocks(bytes), { code: 'file-too-large', message: /Choose a smaller size/ }, `${bytes}`)
  t.end()
})
