// `npm run torture`: the tests of crashes in their long form. The agent is killed at 200 random instants, storage work after
// every durable step, and the power is cut 20 times for each format. Arguments are numbers of kills and of cuts: npm run
// torture -- 1000 50. The choices of a run are repeated with TORTURE_SEED, though not its instants: those are the machine's.
import { spawnSync } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { join } from 'node:path'
import { buildUnlessFresh } from './build.mjs'
import { root } from './step.mjs'

const [kills = '200', cuts = '20'] = process.argv.slice(2)
const seed = process.env.TORTURE_SEED ?? String(randomInt(2 ** 32))

buildUnlessFresh()
process.stdout.write(`TORTURE_SEED=${seed}: ${kills} kills, ${cuts} power cuts for each format, every durable step\n`)
const files = ['torture', 'crash-steps', 'ovirt-crash-steps', 'ovirt-chain-crash-steps', 'power-cut'].map(name => `test/integration/${name}.test.ts`)
// one after the other: they are about instants
const { status } = spawnSync(process.execPath, [join(root, 'node_modules/.bin/tap'), 'run', '--jobs=1', '--reporter=tap', ...files], {
  cwd: root,
  stdio: 'inherit',
  env: { ...process.env, TORTURE_SEED: seed, TORTURE_KILLS: kills, POWER_CUTS: cuts, CRASH_EVERY: process.env.CRASH_EVERY ?? '1' }
})
process.stdout.write(`TORTURE_SEED=${seed}: ${status === 0 ? 'nothing was lost' : 'FAILED'}\n`)
process.exitCode = status ?? 1
