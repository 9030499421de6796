import { AppError } from '../errors.ts'
import type { Brick } from './answers.ts'
import { setOf } from './brick-set.ts'
import { lookIntoBrick } from './brick-look.ts'
import { findVolume, readPendingHeals, readVolfile, startHeal } from './commands.ts'
import { pause } from './pause.ts'
import type { VerbContext, Workshop } from './verb.ts'
import { cutClient } from './volfile.ts'

const pauseMs = 5000
const silenceMs = 30_000
/** Looks that find nothing pending and yet too few files, before all files are compared by Gluster. */
const looksBeforeFull = 2
/** Looks that find something pending, before the self-heal daemons are told again. */
const looksBeforeHeal = 4

/**
 * Waits until a brick holds what the others of its set hold, and returns how many files that are.
 *
 * Gluster's list of what waits to be healed is empty at first, before it has found out: so the files are counted on the
 * brick itself and on another one of its set, and must be as many.
 */
export async function waitUntilHealed (workshop: Workshop, volume: string, brick: string, context: VerbContext): Promise<number> {
  const { gluster } = workshop
  const { signal, log } = context
  let short = 0
  for (let look = 0; ; look++) {
    signal.throwIfAborted()
    const info = await findVolume(gluster, volume, signal)
    const set = setOf(info, brick)
    const files = await countIfHealed(workshop, volume, { brick, set, context }).catch((error: unknown) => {
      signal.throwIfAborted()
      log.warn({ err: error, volume, brick }, 'whether the brick is healed could not be found out; trying again')
      return undefined
    })
    if (files?.isSame === true) return files.count
    // the daemons look for themselves every ten minutes only
    if (files === undefined && look % looksBeforeHeal === 0) await startHeal(gluster, volume, [], signal).catch(ignoreRefusal)
    if (files !== undefined && ++short % looksBeforeFull === 0) await startHeal(gluster, volume, short === looksBeforeFull ? [] : ['full'], signal).catch(ignoreRefusal)
    await pause(pauseMs, signal)
  }
}

/** Undefined while something waits to be healed, or a brick of the set is not there. */
async function countIfHealed ({ gluster, brickSilenceMs = silenceMs }: Workshop, volume: string, { brick, set, context: { signal } }: { brick: string, set: readonly Brick[], context: VerbContext }): Promise<{ isSame: boolean, count: number } | undefined> {
  const heals = await readPendingHeals(gluster, volume, signal)
  if (!set.every(other => heals.find(heal => heal.brick === other.brick)?.entries === 0)) return undefined
  const volfile = await readVolfile(gluster, volume)
  const counts = await Promise.all(set.map(async ({ brick, host, path }) => {
    const client = cutClient(volfile, { host, path })
    if (client === undefined) throw new Error(`the volume file of Gluster does not show how to reach ${brick}`)
    const { files, directories } = await lookIntoBrick({ brick, volfile: client, silenceMs: brickSilenceMs, signal, progressed: () => {} })
    return { brick, files, directories }
  }))
  const own = counts.find(count => count.brick === brick)
  const isSame = counts.every(({ files, directories }) => files === own?.files && directories === own.directories)
  return { isSame, count: own?.files ?? 0 }
}

function ignoreRefusal (error: unknown): void {
  if (!(error instanceof AppError)) throw error
}
