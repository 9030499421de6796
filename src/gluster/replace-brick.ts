import type { ReplaceBrick, ReplaceBrickResult, ResetBrick } from '../api/gluster-kinds.ts'
import { AppError } from '../errors.ts'
import type { VolumeInfo } from './answers.ts'
import { setOf } from './brick-set.ts'
import { findVolume, readPendingHeals, replaceBrick as replace, resetBrick as reset } from './commands.ts'
import { waitUntilHealed } from './healed.ts'
import { verb, type Verb, type VerbContext, type Workshop } from './verb.ts'

/**
 * `gluster.replaceBrick`: puts another brick in the place of one. Accepted when Gluster has done that; it succeeds when
 * the new brick has been healed and holds as many files as the others of its set.
 */
export function replaceBrick (workshop: Workshop): Verb<ReplaceBrick, ReplaceBrickResult> {
  return healing(workshop, async ({ volume, brick, by, force = false }, context) => {
    const info = await findVolume(workshop.gluster, volume, context.signal)
    const isThere = (name: string): boolean => info.bricks.some(other => other.brick === name)
    if (!isThere(brick) && isThere(by)) return { brick: by, alreadyDone: true }
    if (isThere(by)) throw new AppError('bad-request', `${by} is a brick of ${volume} already.`)
    await refuseUnsafe(workshop, info, brick, { force, signal: context.signal })
    await replace(workshop.gluster, volume, brick, by, context.signal)
    return { brick: by }
  })
}

/**
 * `gluster.resetBrick`: `start` takes a brick out of service, so that its disk can be exchanged; `commit` takes it back in
 * at the same place, and succeeds when it is healed.
 */
export function resetBrick (workshop: Workshop): Verb<ResetBrick, ReplaceBrickResult> {
  return healing(workshop, async ({ volume, brick, step, force = false }, context) => {
    const info = await findVolume(workshop.gluster, volume, context.signal)
    if (step === 'start') await refuseUnsafe(workshop, info, brick, { force, signal: context.signal })
    else setOf(info, brick)
    await reset(workshop.gluster, volume, brick, step, context.signal)
    return step === 'start' ? { brick, healed: false } : { brick }
  })
}

/** The brick that is to be healed; `healed` when there is nothing to wait for. */
interface Begun {
  brick: string
  healed?: false
  alreadyDone?: true
}

// Healing takes hours: nobody else has to wait for it, and whoever cancels only stops waiting.
function healing<Spec extends { volume: string }> (workshop: Workshop, begin: (spec: Spec, context: VerbContext) => Promise<Begun>): Verb<Spec, ReplaceBrickResult> {
  const whole = verb<Spec, Begun>(workshop, begin)
  return {
    ...whole,
    cancelable: true,
    run: async (spec, context) => {
      const { brick, healed, alreadyDone } = await whole.run(spec, context)
      context.accepted()
      const members = { volume: spec.volume, brick, ...(alreadyDone === true && { alreadyDone }) }
      if (healed === false) return { ...members, healed }
      return { ...members, healed: true, files: await waitUntilHealed(workshop, spec.volume, brick, context) }
    }
  }
}

// A brick that leaves may have the only good copy; one that is down has left already, and then the others must be there.
async function refuseUnsafe ({ gluster }: Workshop, info: VolumeInfo, brick: string, { force, signal }: { force: boolean, signal: AbortSignal }): Promise<void> {
  const set = setOf(info, brick)
  if (force) return
  if (info.problem !== undefined) throw new AppError('gluster-unexpected', `What Gluster tells of ${info.volume} cannot be understood: ${info.problem}`, { members: { excerpt: info.problem } })
  const heals = await readPendingHeals(gluster, info.volume, signal)
  const found = set.map(({ brick }) => heals.find(heal => heal.brick === brick) ?? { brick, status: 'Gluster did not tell' })
  const own = found.find(heal => heal.brick === brick)
  const isDown = own?.entries === undefined
  const silent = found.filter(heal => heal !== own && heal.entries === undefined)
  if (silent.length > 0) {
    throw new AppError('bricks-unchecked', `${brick} is not taken out of service: other bricks of its set do not answer. ${silent.map(({ brick, status }) => `${brick}: ${status}`).join('; ')}. Start them (gluster volume start ${info.volume} force), and try again. With force it is done all the same, and what only ${brick} has is lost.`, {
      members: { bricks: silent.map(({ brick, status }) => ({ brick, problem: status })) }
    })
  }
  const pending = isDown ? [] : found.flatMap(({ brick, entries = 0 }) => entries > 0 ? [{ brick, entries }] : [])
  if (pending.length > 0) {
    throw new AppError('heals-pending', `${brick} is not taken out of service while files of its set wait to be healed (${pending.map(({ brick, entries }) => `${entries} entries on ${brick}`).join(', ')}): it may have the only good copy. Wait until gluster volume heal ${info.volume} info is empty, and try again. With force it is done all the same, and what only ${brick} has is lost.`, {
      members: { pendingHeals: pending }
    })
  }
}
