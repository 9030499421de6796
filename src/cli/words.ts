import { percentOf, stalledWords, workOf } from '../client/progress.ts'
import type { Copy, Progress, Schemas, Task, TaskSpec } from '../client/types.ts'
import { nameOf, quoted, type ImageAddress } from './address.ts'
import { inCommands } from './glossary.ts'
import { formatBytes, formatSeconds } from './units.ts'

/** What a task is about. */
export function subjectOf (spec: TaskSpec): string {
  if ('source' in spec) return `${nameOf(spec.source)} -> ${nameOf(spec.target)}`
  if ('against' in spec) return `${nameOf(spec)} = ${nameOf(spec.against)}`
  return 'image' in spec ? nameOf(spec) : spec.volume
}

/** The image that a task writes; what a durable record tells about. */
export function targetOf (spec: TaskSpec): ImageAddress | undefined {
  if ('target' in spec) return spec.target
  return spec.kind === 'storage.mendImage' ? spec : undefined
}

/** The kind without its family, as columns show it. */
export function verbOf (kind: string): string {
  return kind.slice(kind.indexOf('.') + 1)
}

/** How far a task is: `45 %, 115 MiB of 256 MiB, 12.3 MiB/s, 11 s left`. */
export function progressOf (progress: Progress): string {
  const { phase, queuePosition, bytesTotal, bytesPerSecond, etaSeconds } = progress
  const [work, stalled] = [workOf(progress), stalledWords(progress)]
  if (phase === 'queued') return queuePosition === undefined ? 'waits for its turn' : `waits for its turn, number ${queuePosition}`
  const parts = [
    phase === 'verifying' && 'verifying',
    work !== undefined && `${percentOf(work.done, work.total)} %`,
    work !== undefined && `${formatBytes(work.done)} of ${formatBytes(work.total)}`,
    bytesTotal !== undefined && work?.total !== bytesTotal && `disk of ${formatBytes(bytesTotal)}`,
    stalled !== undefined && stalled,
    bytesPerSecond !== undefined && `${formatBytes(bytesPerSecond)}/s`,
    etaSeconds !== undefined && `${formatSeconds(etaSeconds)} left`
  ]
  return parts.filter(part => part !== false).join(', ')
}

/** What came of a finished task. */
export function outcomeOf ({ spec, state, result, error }: Task): string {
  if (state === 'canceled') {
    const target = targetOf(spec)
    return target === undefined ? 'canceled' : `canceled; what is copied stays: vdsm-tasks mend ${quoted(nameOf(target))} continues it`
  }
  if (error !== undefined) return inCommands(error.detail)
  if (result === undefined) return state
  if ('bytesMoved' in result) {
    const without = droppedOf(result)
    if (result.alreadyDone === true) return `${nameOf(result)} was complete before${without}`
    if (result.cloned === true) return `${nameOf(result)} is complete, ${formatBytes(result.bytesTotal)}; the file system shares its data with the source${without}`
    const verified = result.verified === true ? ', identical to its source' : ''
    const runs = result.epoch > 1 ? `, in ${result.epoch} runs` : ''
    return `${nameOf(result)} is complete, ${formatBytes(result.bytesTotal)}${verified}; moved ${formatBytes(result.bytesMoved)}${runs}${without}`
  }
  if ('identical' in result) return result.identical ? `${subjectOf(spec)}: identical` : `${subjectOf(spec)}: not identical, first difference at byte ${result.firstDifference ?? '?'}`
  if ('bytesFreed' in result) return `${nameOf(result)} is deleted, ${formatBytes(result.bytesFreed)} freed`
  if ('forgotten' in result) return result.forgotten ? `the copy record of ${nameOf(result)} is removed; the image is as it was` : `there is no copy record of ${nameOf(result)}`
  if ('image' in result) return `${nameOf(result)} is created${result.virtualSize === undefined ? '' : `, ${formatBytes(result.virtualSize)}`}`
  if ('healed' in result) return result.healed ? `${result.brick} is healed, ${result.files ?? 0} files` : `${result.brick} is out of service; exchange its disk, then reset it with commit`
  if ('alreadyStarted' in result && result.alreadyStarted === true) return `operation ${result.operationId} was started before`
  if ('alreadyDone' in result && result.alreadyDone === true) return 'the bricks had been removed before'
  return `operation ${result.operationId ?? ''}${'final' in result && result.final !== undefined ? ` is over: ${formatBytes(result.final.totals.bytes)} in ${result.final.totals.files} files moved` : ' is registered'}`
}

/** What the source has and the copy does not. */
function droppedOf ({ dropped }: Schemas['CopyResult']): string {
  return dropped === undefined ? '' : `; not copied: ${notCopied(dropped)}`
}

/** The names of what a copy does not have. */
export function notCopied ({ snapshots, bitmaps, more = 0 }: Schemas['Dropped']): string {
  const parts = [
    snapshots.length > 0 && `internal snapshots ${snapshots.join(', ')}`,
    bitmaps.length > 0 && `bitmaps ${bitmaps.join(', ')}`,
    more > 0 && `${more} more`
  ]
  return parts.filter(part => part !== false).join('; ')
}

/** What the storage tells of a task that the agent has forgotten. */
export function remainsOf ({ id, spec }: Task, copy: Copy | undefined): string {
  const target = targetOf(spec)
  if (target === undefined) return `The agent has forgotten task ${id} (${subjectOf(spec)}): look at what it was to do.`
  const name = nameOf(target)
  if (copy === undefined) return `The agent has forgotten task ${id}: vdsm-tasks status ${quoted(name)} tells how far ${name} is.`
  if (copy.state === 'done') return `${name} is complete`
  const { bytesDone, bytesTotal, host } = copy.copy
  if (copy.state === 'copying') return `The agent has forgotten task ${id}. Host ${host.id} copies ${name}, ${percentOf(bytesDone, bytesTotal)} % is done: vdsm-tasks status ${quoted(name)} tells how far it is.`
  return `The agent has forgotten task ${id}. ${name} is ${copy.state}, ${percentOf(bytesDone, bytesTotal)} % of it is copied: vdsm-tasks mend ${quoted(name)} continues it.`
}
