import { randomUUID } from 'node:crypto'
import type { StartOperationResult, StartVolumeRebalance } from '../api/gluster-kinds.ts'
import { AppError } from '../errors.ts'
import type { NodeReport, StatusReport, VolumeInfo } from './answers.ts'
import { comingToItsEnd, tellBelievers, triesAfterMs } from './believers.ts'
import { decide, earlierRun, recentAt, unsigned } from './claim.ts'
import { findTasks, findVolume, listHosts, readStatus, setOption, start, stop, type Target } from './commands.ts'
import { refuseEnded } from './life.ts'
import { leaveClaim } from './leave-claim.ts'
import { foldHosts, formatMark, optionOf, readMarks, type Mark, type Marks } from './marks.ts'
import { isFixLayout, nodeState } from './observe.ts'
import { pause } from './pause.ts'
import { shardWarning, throttleWarning } from './throttle.ts'
import { verb, type Verb, type VerbContext, type Workshop } from './verb.ts'

// An agent signs right after the start it has announced; one that has not by then is gone.
const signingMs = 5000
// Within that a rebalance has looked at files, and can be told from a fix-layout.
const lookingMs = 10_000
const pauseMs = 500

/** `gluster.startVolumeRebalance`: succeeds as soon as Gluster has registered the operation, or with the one in progress. */
export function startVolumeRebalance (workshop: Workshop): Verb<StartVolumeRebalance, StartOperationResult> {
  return verb(workshop, async ({ mode = 'rebalance', force = false, restart = false, throttle, ...spec }, context) => {
    const { gluster } = workshop
    const info = await findVolume(gluster, spec.volume, context.signal)
    const throttled = info.state === 'started' ? await throttleWarning(gluster, spec.volume, throttle, context.signal) : []
    const result = await run({ workshop, spec: { ...spec, mode, force, restart }, context })
    const warnings = [...throttled, ...mode === 'rebalance' ? shardWarning(info) : []]
    return { ...result, ...(warnings.length > 0 && { warnings }) }
  })
}

interface Request {
  workshop: Workshop
  spec: Required<Omit<StartVolumeRebalance, 'throttle'>>
  context: VerbContext
}

async function run (request: Request): Promise<StartOperationResult> {
  const { workshop, spec: { mode, force }, context: { id, signal, reused = false } } = request
  if (force && mode === 'fix-layout') throw new AppError('not-supported', 'force is for the mode rebalance: fixing the layout moves no files.')
  const command = { taskId: id, what: mode }
  const firstMarks = readMarks(await startedVolume(request), 'rebalance')
  const isRecent = recentAt(Date.now(), workshop.retentionSeconds)
  const earlier = reused ? undefined : earlierRun(firstMarks, command, isRecent)
  if (earlier !== undefined) return claim(request, earlier, true)

  const pauses = [...workshop.triesAfterMs ?? triesAfterMs]
  let signingEnd: number | undefined
  let movingEnd: number | undefined
  let refusal: AppError | undefined
  let firstLook: { id?: string } | undefined
  while (true) {
    const operation = await currentRebalance(request)
    firstLook ??= operation ?? {}
    const marks = readMarks(await startedVolume(request), 'rebalance')
    if (operation?.runs === true && await isStopped(request, operation.id)) continue
    if (operation?.runs === true && mode === 'rebalance' && !operation.movesFiles) {
      movingEnd ??= performance.now() + (workshop.lookingMs ?? lookingMs)
      if (performance.now() > movingEnd) throw unclear(request, operation.id)
      await pause(pauseMs, signal)
      continue
    }
    if (operation?.runs === true) {
      return claim(request, operation.id, await settle(request, marks, operation.id, refusal !== undefined))
    }
    const decision = decide({ request: command, firstMarks, firstOperation: firstLook.id, marks, operation: operation?.id }, isRecent)
    if (decision === 'claim' && operation !== undefined) {
      return claim(request, operation.id, await settle(request, marks, operation.id, refusal !== undefined))
    }
    if (decision === 'wait') signingEnd ??= performance.now() + signingMs
    if (decision === 'start' || performance.now() > (signingEnd ?? 0)) {
      const started = await tryStart(request, operation?.id)
      if (!(started instanceof AppError)) return started
      refusal = started
      const next = pauses.shift()
      if (next === undefined) throw await stillStarted(request, refusal)
      await pause(next, signal)
      continue
    }
    await pause(pauseMs, signal)
  }
}

/** Stops an operation in which nothing gets on, if that is wanted; refuses it if not. */
async function isStopped (request: Request, operationId: string): Promise<boolean> {
  const { workshop, spec: { volume, restart }, context } = request
  const stalledSince = workshop.stalledSince?.(operationId)
  if (stalledSince === undefined) return false
  const task = { type: 'rebalance', operationId } as const
  if (!restart) refuseEnded(volume, task, { runs: false, state: 'running', stalledSince })
  await stop(workshop.gluster, targetOf(request), context.signal)
  return true
}

async function stillStarted ({ workshop, spec: { volume }, context }: Request, refusal: AppError): Promise<AppError> {
  const who = await tellBelievers(workshop, { volume, type: 'rebalance' }, refusal, context.signal)
  return new AppError('gluster-busy', `Gluster says that a rebalance of ${volume} is already started, but on this host none is running. ${who ?? comingToItsEnd}`)
}

/** The new operation; the refusal when Gluster says that there is one. */
async function tryStart (request: Request, previous: string | undefined): Promise<StartOperationResult | AppError> {
  const { workshop: { gluster, changed }, spec: { mode, force }, context } = request
  const startId = randomUUID()
  const announcement = { ...markOf(request), startId, ...(previous !== undefined && { previous }) }
  // without it, a caller whose agent is restarted right now may start it twice: that is no reason not to start it once
  await leave(request, 'starting', formatMark(announcement))
  let operationId: string
  try {
    operationId = await start(gluster, { ...targetOf(request), ...(previous !== undefined && { previous }) }, mode === 'fix-layout' ? ['fix-layout', 'start'] : force ? ['start', 'force'] : ['start'], context.signal)
  } catch (error) {
    if (!(error instanceof AppError) || error.changed) throw error
    // Also said for some seconds after a stop, until the last file that was on its way has arrived.
    if (error.code === 'operation-conflict') return error
    await withdraw(request)
    throw error
  }
  context.accepted({ operationId })
  const marked = await sign(request, operationId, { startId })
  changed()
  return { operationId, ...(!marked && { marked }) }
}

async function startedVolume ({ workshop, spec, context }: Request): Promise<VolumeInfo> {
  const info = await findVolume(workshop.gluster, spec.volume, context.signal)
  if (info.state === 'started') return info
  throw new AppError('volume-not-started', `The Gluster volume ${info.volume} is not started (${info.state}). Start it with: gluster volume start ${info.volume}`)
}

interface Current {
  id: string
  runs: boolean
  /** Certainly no fix-layout. */
  movesFiles: boolean
}

/** The rebalance that Gluster knows of. Throws when it runs and cannot stand for what is asked. */
async function currentRebalance (request: Request): Promise<Current | undefined> {
  const { workshop: { gluster }, spec: { volume, mode }, context } = request
  const task = (await findTasks(gluster, volume, context.signal)).find(({ type }) => type === 'rebalance')
  if (task === undefined) return undefined
  let report: StatusReport
  try {
    report = await readStatus(gluster, targetOf(request))
  } catch (error) {
    // stopped since the look at the tasks
    if (error instanceof AppError && error.code === 'operation-not-running') return undefined
    throw error
  }
  const { operationId = task.operationId, nodes } = report
  const running = nodes.filter(node => nodeState(node.status) === 'running')
  if (mode === 'fix-layout' || running.length === 0) return { id: operationId, runs: running.length > 0, movesFiles: true }
  // A rebalance fixes the layout as well. The other way round the files would stay where they are.
  const moves = await whetherFilesMove(request, operationId, nodes)
  if (moves === false) {
    throw new AppError('operation-conflict', `On the volume ${volume} a fix-layout is in progress (${operationId}), which moves no files. Wait for its end, or stop it, and try again.`, { members: { operationId } })
  }
  return { id: operationId, runs: true, movesFiles: moves === true }
}

/**
 * Whether what is in progress is a rebalance, and no fix-layout; undefined while that cannot be told. To a host that
 * holds no brick of the volume, GlusterFS 10 calls a fix-layout "in progress", as if it were a rebalance.
 */
async function whetherFilesMove (request: Request, operationId: string, nodes: readonly NodeReport[]): Promise<boolean | undefined> {
  if (nodes.some(isFixLayout)) return false
  const info = await startedVolume(request)
  const { started } = readMarks(info, 'rebalance')
  if (started?.operationId === operationId) return started.what !== 'fix-layout'
  if (nodes.some(({ files, scanned }) => files + scanned > 0)) return true
  const own = (await listHosts(request.workshop.gluster)).find(({ host }) => host === 'localhost')?.hostUuid
  return info.bricks.some(({ hostUuid }) => hostUuid === own) ? true : undefined
}

function unclear ({ spec: { volume } }: Request, operationId: string): AppError {
  return new AppError('operation-conflict', `On the volume ${volume} there is an operation in progress (${operationId}) that has looked at no file yet: it may be a fix-layout, which moves none. This host cannot tell, because it holds no brick of the volume. Try again on a host that holds one, or later, or stop the operation.`, { members: { operationId } })
}

function claim ({ workshop, context }: Request, operationId: string, marked: boolean): StartOperationResult {
  context.accepted({ operationId })
  workshop.changed()
  return { operationId, alreadyStarted: true, ...(!marked && { marked }) }
}

/** Leaves the marks as they are to be when an operation that is there is the answer; `refused` when another start was faster. */
async function settle (request: Request, marks: Marks, operationId: string, refused: boolean): Promise<boolean> {
  const { taskId, what } = { taskId: request.context.id, what: request.spec.mode }
  const announced = unsigned(marks)
  const isMine = announced?.taskId === taskId && announced.what === what
  const isSigned = marks.started?.operationId === operationId
  // started by this task before the agent was restarted: the start was when it was announced
  if (isMine && !refused && !isSigned && announced.previous !== operationId) return await sign(request, operationId, announced)
  if (isMine) await withdraw(request)
  const { workshop, spec: { volume }, context } = request
  const hosts = foldHosts(await startedVolume(request))
  return await leaveClaim({ workshop, context, volume, type: 'rebalance', what, marks, operationId, hosts })
}

// The operation is there, whether or not its name tag is: that must not fail the task.
async function sign (request: Request, operationId: string, { startId, at }: { startId: string, at?: string }): Promise<boolean> {
  // looked at after the start: a host that is not there yet has certainly joined later
  const hosts = await startedVolume(request).then(info => ({ hosts: foldHosts(info) }), () => ({}))
  const mark = { ...markOf(request), ...(at !== undefined && { at }), operationId, startId, ...hosts }
  return await leave(request, 'started', formatMark(mark))
}

/** Takes the announcement back: an operation that comes later is none of this task's. Gluster cannot reset user options. */
async function withdraw (request: Request): Promise<void> {
  await leave(request, 'starting', '-')
}

async function leave ({ workshop, spec, context }: Request, step: keyof Marks, value: string): Promise<boolean> {
  try {
    await setOption(workshop.gluster, spec.volume, optionOf('rebalance', step), value)
    return true
  } catch (error) {
    context.log.warn({ err: error, volume: spec.volume, step }, 'the volume could not be marked with the task id')
    return false
  }
}

function markOf ({ workshop, spec, context }: Request): Mark {
  return { taskId: context.id, hostId: workshop.hostId, at: new Date().toISOString(), what: spec.mode }
}

function targetOf ({ spec }: Request): Target {
  return { type: 'rebalance', volume: spec.volume, bricks: [] }
}
