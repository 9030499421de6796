import type { Test } from 'tap'
import { callsOf, runUntilCall, type Call } from './kill-at-call.ts'

/** What is done to one image, and killed. */
export interface Scene {
  prepare?: () => Promise<void>
  /** The command that does it. */
  argv: readonly string[]
  /** Looks at what a kill has left, and takes it to the end and away. Returns a word for what it found. */
  check: (t: Test, index: number) => Promise<string>
  /** These words, in their order: a step never leads back. */
  order: readonly string[]
  /** Those of the steps that are meant. */
  steps?: (calls: readonly Call[]) => Call[]
}

/**
 * Kills a command before each of its durable calls in turn, and looks at what is left. Being killed as one call begins is
 * being killed right after the one before, so all calls are all steps.
 */
export async function killAtEachStep (t: Test, { prepare = async () => {}, argv, check, order, steps = calls => [...calls] }: Scene): Promise<void> {
  await prepare()
  const calls = await callsOf(argv)
  await check(t, 0)
  t.ok(calls.length >= 3, `${calls.length} steps: ${calls.map(({ name }) => name).join(' ')}`)
  const chosen = steps(calls)
  const found: string[] = []
  for (const [index, call] of chosen.entries()) {
    await prepare()
    const signal = await runUntilCall(argv, call)
    // flushes follow the clock, and another run may have had fewer of them: then it has ended
    if (call.name !== 'fdatasync' || signal !== null) t.equal(signal, 'SIGKILL', `hit ${call.name} ${call.number}`)
    found.push(await check(t, index))
  }
  const words = found.filter((word, index) => word !== found[index - 1])
  if (chosen.length === calls.length) {
    t.strictSame(words, order)
    return
  }
  const rest = [...order]
  t.ok(words.every(word => rest.splice(0, rest.indexOf(word) + 1).length > 0), `${words.join()} in the order of ${order.join()}`)
}
