import { randomBytes } from 'node:crypto'
import type { Test } from 'tap'
import type { Call } from './kill-at-call.ts'
import { seeded } from './seeded.ts'

/**
 * Chooses a sample of steps to kill at: one in `usually`, or in CRASH_EVERY (1 takes them all, as npm run torture does),
 * beginning with one that TORTURE_SEED decides, which is told.
 */
export function crashSample (t: Test, usually: number): (calls: readonly Call[]) => Call[] {
  const every = Number(process.env['CRASH_EVERY'] ?? usually)
  const seed = Number(process.env['TORTURE_SEED'] ?? randomBytes(4).readUInt32LE())
  t.setTimeout(every === 1 ? 1_800_000 : 600_000)
  t.comment(`TORTURE_SEED=${seed}`)
  const random = seeded(seed)
  return calls => {
    const first = Math.floor(random() * Math.min(every, calls.length))
    return calls.filter((_, index) => index % every === first)
  }
}
