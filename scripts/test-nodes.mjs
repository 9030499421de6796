// Runs tests under the other lines of Node that are supported, which the npm registry ships as packages, and under the oldest
// one: npm run test:nodes [-- --all | FILE...]. The one in use is what `npm test` is for.
// Without arguments it runs those below: each part of the agent, and what depends on Node most. All of them take ten minutes a line.
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { root, say } from './step.mjs'

const { engines } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const oldest = `${engines.node.replace('>=', '')}.0`
const lines = [oldest, '22', '24']
/** Start, copy, kill, mend, events, streams, the command line, and the modules that use what differs between lines of Node. */
const quick = [
  'test/main.test.ts', 'test/app.test.ts', 'test/config.test.ts', 'test/client', 'test/system', 'test/qemu', 'test/tasks', 'test/http/tasks.test.ts', 'test/http/events.test.ts',
  'test/http/waits.test.ts', 'test/http/login.test.ts', 'test/events/stream.test.ts', 'test/storage/lease.test.ts', 'test/storage/record.test.ts', 'test/gluster/cli.test.ts', 'test/metrics',
  'test/cli/copy.test.ts', 'test/cli/follow.test.ts', 'test/cli/units.test.ts', 'test/integration/copy.test.ts', 'test/integration/crash.test.ts', 'test/integration/recovery.test.ts'
]

const [first, ...others] = process.argv.slice(2)
const files = first === '--all' ? [] : first === undefined ? quick : [first, ...others]
const failed = []
for (const line of lines) {
  const [major] = process.versions.node.split('.')
  // the patches of a line do not differ in what is used; the oldest release of one does
  if (line === process.versions.node || (line === major && line !== oldest)) continue
  say(`testing under Node ${line}`)
  // tap starts tests with the Node that it runs with itself, and so do the tests
  const { status } = spawnSync('npx', ['-y', `node@${line}`, 'scripts/check.mjs', '--tests', ...files], { cwd: root, stdio: 'inherit' })
  if (status !== 0) failed.push(line)
}
if (failed.length > 0) say(`failed under Node ${failed.join(' and ')}`)
process.exitCode = failed.length > 0 ? 1 : 0
