// Runs the tests under the other lines of Node that are supported, which the npm registry ships as packages:
// npm run test:nodes [-- FILE...]. The one in use is what `npm test` is for.
import { spawnSync } from 'node:child_process'
import { root, say } from './step.mjs'

const lines = ['22', '24']
const failed = []
for (const line of lines) {
  const [major] = process.versions.node.split('.')
  if (major === line) continue
  say(`testing under Node ${line}`)
  // tap starts tests with the Node that it runs with itself
  const { status } = spawnSync('npx', ['-y', `node@${line}`, 'scripts/check.mjs', ...process.argv.slice(2)], { cwd: root, stdio: 'inherit' })
  if (status !== 0) failed.push(line)
}
if (failed.length > 0) say(`failed under Node ${failed.join(' and ')}`)
process.exitCode = failed.length > 0 ? 1 : 0
