import t from 'tap'
import { answers } from '../../src/storage/answers.ts'
import { Child } from '../../src/storage/child.ts'
import type { DiscoverFunctions } from '../../src/storage/discovery.ts'

t.test('a process that could not be started is a dead one', async t => {
  // longer than an argument may be: Node throws that, and what the kernel says when there is no memory for one more process
  const child = new Child<DiscoverFunctions, object>(new URL('../helpers/echo-child', import.meta.url), {}, { shown: ['x'.repeat(200_000)] })
  child.ref()
  await t.rejects(child.call('The look', answers.domains, async remote => await remote.find('/')), { code: 'storage-failed', message: /no process could be started/ })
  await child.gone
  t.equal(child.alive, false)
  child.end()
})
