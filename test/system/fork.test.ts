import { once } from 'node:events'
import t from 'tap'
import { forkBound } from '../../src/system/fork.ts'

t.test('a process that cannot be started says so later, also where Node would throw', async t => {
  // longer than an argument may be
  const child = forkBound(new URL('../helpers/echo-child', import.meta.url), { shown: ['x'.repeat(200_000)] })
  t.match(await once(child, 'error'), [{ code: 'E2BIG' }])
  t.equal(child.kill('SIGKILL'), false)
  child.unref()
})
