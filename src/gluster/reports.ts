import type { StatusReport, VolumeInfo, VolumeTask } from './answers.ts'
import type { BrickDetail } from './brick-answers.ts'
import type { Gluster, Question, Reply } from './cli.ts'
import { askForBricks, questionsAbout } from './commands.ts'

/** An operation that this host's glusterd knows. */
export interface OwnTask {
  volume: VolumeInfo
  task: VolumeTask
}

/** What Gluster says of an operation, or why it does not. Undefined: it was stopped, committed or replaced a moment ago. */
export type Told = { report: StatusReport } | { problem: { code: string, detail: string } } | undefined

export interface Reports {
  /** By the id of the operation. */
  told: Map<string, Told>
  /** What the bricks hold, if that was asked for and answered. */
  bricks?: Map<string, BrickDetail[]>
}

/** Asks how far operations are, in as few runs of the gluster command as possible. */
export class Reporter {
  readonly #gluster: Gluster
  /** Operations of which Gluster did not tell last: they are asked for last, so that they hide no others. */
  #silent = new Set<string>()

  constructor (gluster: Gluster) {
    this.#gluster = gluster
  }

  /** `withBricks`: what they hold as well. */
  async read (own: readonly OwnTask[], { withBricks }: { withBricks: boolean }): Promise<Reports> {
    const rank = ({ task }: OwnTask): number => Number(this.#silent.has(task.operationId))
    const ordered = [...own].sort((a, b) => rank(a) - rank(b))
    const about: Array<Question<StatusReport | Map<string, BrickDetail[]>>> = questionsAbout(ordered.map(({ volume, task }) => ({ ...task, volume: volume.volume })))
    const replies = await this.#gluster.askAll(withBricks ? [...about, askForBricks] : about)
    const told = new Map(ordered.map(({ task: { operationId } }, index) => [operationId, toldBy(replies[index], operationId)]))
    this.#silent = new Set([...told].flatMap(([operationId, told]) => told !== undefined && 'problem' in told ? operationId : []))
    const bricks = withBricks ? replies.at(-1) : undefined
    return { told, ...(bricks !== undefined && 'value' in bricks && bricks.value instanceof Map && { bricks: bricks.value }) }
  }
}

function toldBy (reply: Reply<StatusReport | Map<string, BrickDetail[]>> | undefined, operationId: string): Told {
  if (reply === undefined) return undefined
  if ('error' in reply) {
    const { code, message } = reply.error
    return code === 'operation-not-running' || code === 'volume-not-found' ? undefined : { problem: { code, detail: message } }
  }
  if (reply.value instanceof Map) return undefined
  const report = reply.value
  return report.operationId === undefined || report.operationId === operationId ? { report } : undefined
}
