import { AppError } from '../errors.ts'
import type { Brick, VolumeInfo } from './answers.ts'
import type { BrickContent } from './brick/contract.ts'
import { lookIntoBrick } from './brick-look.ts'
import { readPendingHeals, readVolfile } from './commands.ts'
import type { VerbContext, Workshop } from './verb.ts'
import { cutClient } from './volfile.ts'

/** What was found out about one brick. */
interface Finding {
  brick: string
  content?: BrickContent
  /** Why nothing is known of it. */
  problem?: string
}

const defaultSilenceMs = 30_000
/** Each look is a process and a mount. */
const looksAtOnce = 4

const nextStep = 'Send startRemoveBrick for the same bricks with "restart": true: it moves what is left. When it is completed, commit again.'
const lastResort = 'With force the bricks are taken out whatever is on them, and these files are lost to the volume.'

/**
 * Refuses unless each brick was looked into and holds no file.
 *
 * Gluster's word is not enough: a host that was down while an option of the volume was set comes back with a rebalance
 * that is `completed` after seconds, and has moved nothing.
 *
 * Throws `bricks-not-empty`, and `bricks-unchecked` when a brick could not be looked into.
 */
export async function refuseUnlessEmpty (workshop: Workshop, info: VolumeInfo, bricks: readonly string[], context: VerbContext): Promise<void> {
  const volfile = await readVolfile(workshop.gluster, info.volume)
  const waiting = info.bricks.filter(({ brick }) => bricks.includes(brick))
  const findings: Finding[] = []
  await Promise.all(Array.from({ length: looksAtOnce }, async () => {
    for (let brick = waiting.shift(); brick !== undefined; brick = waiting.shift()) {
      findings.push(await look(workshop, volfile, brick, context))
    }
  }))
  refuseFindings(info, findings)
}

/**
 * Refuses while a brick that stays lacks something, or does not answer: `heals-pending`, `bricks-unchecked`.
 *
 * When replicas are reduced, a brick that leaves may be the only one that has a file: then it is asked, too. Only
 * volumes with replicas or redundancy know heals.
 */
export async function refuseUnlessHealed (workshop: Workshop, info: VolumeInfo, bricks: readonly string[], { replicasReduced, signal }: { replicasReduced: boolean, signal: AbortSignal }): Promise<void> {
  if (info.replicaCount < 2 && info.disperseCount < 2) return
  const heals = await readPendingHeals(workshop.gluster, info.volume, signal)
  const asked = info.bricks.map(({ brick }) => brick).filter(brick => replicasReduced || !bricks.includes(brick))
  const found = asked.map(brick => heals.find(heal => heal.brick === brick) ?? { brick, status: 'Gluster did not tell' })
  const pending = found.flatMap(({ brick, entries = 0 }) => entries > 0 ? [{ brick, entries }] : [])
  if (pending.length > 0) {
    const counts = pending.map(({ brick, entries }) => `${entries} entries on ${brick}`).join(', ')
    throw new AppError('heals-pending', `Bricks of ${info.volume} cannot be taken out while files wait to be healed (${counts}): a brick that leaves may have the only good copy. See gluster volume heal ${info.volume} info, wait until it is empty, and commit again. With force the bricks are taken out all the same, and what only they have is lost.`, {
      members: { pendingHeals: pending }
    })
  }
  const silent = found.filter(({ entries }) => entries === undefined)
  if (silent.length === 0) return
  throw new AppError('bricks-unchecked', `Bricks of ${info.volume} cannot be taken out: whether files wait to be healed is not known. ${silent.map(({ brick, status }) => `${brick}: ${status}`).join('; ')}. Start these bricks (gluster volume start ${info.volume} force, on a host that is up), wait for their heals, and commit again. With force the bricks are taken out all the same, and what only they have is lost.`, {
    members: { bricks: silent.map(({ brick, status }) => ({ brick, problem: status })) }
  })
}

async function look ({ gluster, brickSilenceMs = defaultSilenceMs }: Workshop, volfile: string, { brick, host, path }: Brick, { signal, accepting }: VerbContext): Promise<Finding> {
  const client = cutClient(volfile, { host, path })
  if (client === undefined) return { brick, problem: 'the volume file of Gluster does not show how to reach it' }
  try {
    return { brick, content: await lookIntoBrick({ brick, volfile: client, silenceMs: brickSilenceMs, signal, progressed: accepting }) }
  } catch (error) {
    signal.throwIfAborted()
    return { brick, problem: error instanceof Error ? error.message : String(error) }
  }
}

// Gluster moves such a file no more when its copy on the other brick was complete: only a person may say which is the good one.
function aboutHalfMoved (findings: readonly Finding[]): string {
  const told = findings.flatMap(({ brick, content }) => content === undefined || content.halfMoved === 0 ? [] : [`${content.halfMoved} on ${brick}`])
  if (told.length === 0) return ''
  return `Some of them were on their way when a host went down (${told.join(', ')}; on the brick: find . -type f -perm -3000). If a restart does not move these, the volume has their copies on other bricks: compare each with the file of the same name in the mounted volume, and if they are the same remove it from the brick, with its link in .glusterfs (find . -samefile NAME). `
}

function refuseFindings ({ volume }: VolumeInfo, findings: readonly Finding[]): void {
  const filled = findings.filter(({ content }) => content !== undefined && content.files > 0)
  const unknown = findings.flatMap(({ brick, problem }) => problem === undefined ? [] : [{ brick, problem }])
  if (filled.length === 0 && unknown.length === 0) return
  const members = {
    filesLeft: filled.reduce((files, { content }) => files + (content?.files ?? 0), 0),
    bricks: findings.map(({ brick, content, problem }) => ({
      brick,
      ...(content !== undefined && { files: content.files, ...(content.halfMoved > 0 && { halfMoved: content.halfMoved }), ...(content.files > 0 && { examples: content.examples }) }),
      ...(problem !== undefined && { problem })
    }))
  }
  const unchecked = unknown.map(({ brick, problem }) => `${brick} could not be looked into: ${problem}.`).join(' ')
  if (filled.length > 0) {
    const counts = filled.map(({ brick, content }) => `${brick} holds ${content?.files} files, for example ${content?.examples[0]}`).join('; ')
    throw new AppError('bricks-not-empty', `The removal of bricks from ${volume} cannot be committed: ${counts}. Gluster calls it completed, but has not moved them. ${unchecked === '' ? '' : `${unchecked} `}${nextStep} ${aboutHalfMoved(filled)}${lastResort}`, { members })
  }
  throw new AppError('bricks-unchecked', `The removal of bricks from ${volume} cannot be committed: ${unchecked} Files that are left there would be lost. See that the brick is online (gluster volume status ${volume}), and commit again, on another host if it is this one that cannot look. With force the bricks are taken out unseen.`, { members })
}
