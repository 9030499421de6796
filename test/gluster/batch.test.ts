import t from 'tap'
import { fitsBatch, formatBatch, splitAnswers } from '../../src/gluster/batch.ts'
import { parseAnswer } from '../../src/gluster/answers.ts'
import { outputOf } from './fixture.ts'

t.test('what the program would read otherwise is not given on its standard input', async t => {
  t.ok(fitsBatch(['volume', 'rebalance', 'v0', 'status']))
  t.ok(fitsBatch(['x'.repeat(1000)]))
  // it reads lines of 1,023 characters: the rest of a longer one would be the next command
  t.notOk(fitsBatch(['volume', 'remove-brick', 'v0', `node1:/${'x'.repeat(1000)}`, 'status']))
  for (const word of ['', 'two words', 'a\nvolume', 'tab\t', 'é']) t.notOk(fitsBatch(['volume', word]), JSON.stringify(word))
  t.equal(formatBatch([['pool', 'list'], ['volume', 'info']]), 'pool list\nvolume info\n')
})

t.test('answers are told apart, whatever is between them', async t => {
  const [one, two] = [outputOf('pool-list'), outputOf('tasks-empty')]
  t.strictSame(splitAnswers(`${one}gluster> ${two}`).map(text => parseAnswer(text).ok), [true, true])
  t.strictSame(splitAnswers(''), [])
  t.strictSame(splitAnswers('Connection failed.'), [])
  const [, cut = ''] = splitAnswers(one + two.slice(0, 100))
  t.throws(() => parseAnswer(cut))
})
