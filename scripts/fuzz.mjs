// The fuzzing of the HTTP surface and of what other hosts write to a shared storage that `npm test` does for seconds, for longer: npm run fuzz [-- SECONDS [SEED]]; ten minutes by default.
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { buildUnlessFresh } from './build.mjs'
import { root } from './step.mjs'

const [seconds = '600', seed] = process.argv.slice(2)
buildUnlessFresh()
const { status } = spawnSync(join(root, 'node_modules/.bin/tap'), ['run', '--disable-coverage', '--reporter=tap', '--jobs=1', 'test/integration/fuzz.test.ts', 'test/storage/hostile.test.ts'], {
  cwd: root,
  stdio: 'inherit',
  env: { ...process.env, FUZZ_SECONDS: seconds, ...(seed !== undefined && { FUZZ_SEED: seed }) }
})
process.exitCode = status ?? 1
