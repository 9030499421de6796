import { execFileSync } from 'node:child_process'
import t from 'tap'
import { quoted } from '../../src/cli/address.ts'

t.test('what is quoted comes out of a shell as it was, and nothing is quoted without need', async t => {
  for (const text of ['local/a.raw', 'local/with space (1).raw', "unix:/it's $HOME `id` \\ \"here\".sock", '*', '']) {
    t.equal(execFileSync('sh', ['-c', `printf %s ${quoted(text)}`], { encoding: 'utf8' }), text)
  }
  t.equal(quoted('http://127.0.0.1:7480'), 'http://127.0.0.1:7480')
})
