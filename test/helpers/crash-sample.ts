import { randomBytes } from 'node:crypto'
import type { Test } from 'tap'
import { seeded } from './seeded.ts'

/** At which steps a run kills: one in `usually`, or in CRASH_EVERY, beginning with one that TORTURE_SEED decides, which it tells. */
export function crashSample (t: Test, usually: number): { every: number, random: () => number } {
  const every = Number(process.env['CRASH_EVERY'] ?? usually)
  const seed = Number(process.env['TORTURE_SEED'] ?? randomBytes(4).readUInt32LE())
  t.setTimeout(every === 1 ? 1_800_000 : 300_000)
  t.comment(`TORTURE_SEED=${seed}`)
  return { every, random: seeded(seed) }
}
