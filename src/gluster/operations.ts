import type { GlusterVolumeList, Operation, OperationList, Throttle } from '../api/operation.ts'
import { AppError, type ErrorCode } from '../errors.ts'
import type { PoolHost, StatusReport, VolumeInfo, VolumeTask } from './answers.ts'
import type { BrickDetail } from './brick-answers.ts'
import type { Gluster } from './cli.ts'
import { listBricks, listHosts, listTasks, readAllVolumes } from './commands.ts'
import { endedOn } from './ended.ts'
import { remainderOf, type Usage } from './estimate.ts'
import { Movement } from './movement.ts'
import { describeOperation, namesOf } from './observe.ts'
import { Rates } from './rates.ts'
import { Reporter, type OwnTask, type Reports, type Told } from './reports.ts'
import { setThrottle, withThrottle } from './throttle.ts'
import { Snapshot } from './snapshot.ts'
import { Peers, tasksOn, viewsOf, type Views } from './views.ts'
import { describeVolume } from './volumes.ts'

/** Whether Gluster can be asked at all. */
export type Availability = { available: true } | { available: false, code: ErrorCode, detail: string }

const maxAgeMs = 2000
// With a cable pulled, a look takes half a minute.
const patienceMs = 2000
const momentMs = 200
const tooSlow = {
  code: 'gluster-unresponsive',
  detail: 'Gluster has not answered yet: this is what was seen last, at observedAt. A host may be down; see gluster pool list.'
} as const
/** Whoever asks whether the agent is ready must not wait for a command line that hangs: as long as for storage. */
const probeMs = 5000
// The space in use only says where an estimate starts from; asking for it locks every volume.
const usageAgeMs = 30_000

interface Seen {
  startedAt?: string
  /** The bytes that were moved when the space in use was asked for. */
  moved?: number
}

/** What one look has shown so far. */
interface Look {
  volumes: VolumeInfo[]
  hosts: PoolHost[]
  views: Views
  observedAt: string
}

/** What runs on the Gluster volumes of this cluster. Everything is asked for anew; nothing is remembered but what rates and estimates need. */
export class Operations {
  readonly #gluster: Gluster
  readonly #hostId: string
  readonly #peers: Peers
  readonly #reporter: Reporter
  /** The volumes of the last look, without what their bricks say. */
  #noted: GlusterVolumeList | undefined
  #usage: (Usage & { until: number }) | undefined
  readonly #rates = new Rates()
  readonly #movement = new Movement()
  readonly #seen = new Map<string, Seen>()
  readonly #operations: Snapshot<OperationList>
  readonly #volumes: Snapshot<GlusterVolumeList>
  readonly #availability: Snapshot<Availability>

  /** `hostId` names this host if it has no bricks that would; for `settleMs` see Peers. */
  constructor ({ gluster, hostId, settleMs }: { gluster: Gluster, hostId: string, settleMs?: number }) {
    this.#gluster = gluster
    this.#hostId = hostId
    this.#peers = new Peers(gluster, settleMs)
    this.#reporter = new Reporter(gluster)
    this.#operations = new Snapshot(() => this.#look(), maxAgeMs)
    this.#volumes = new Snapshot(() => this.#lookAtVolumes(), maxAgeMs)
    this.#availability = new Snapshot(() => this.#probe(), maxAgeMs)
  }

  /**
   * Every operation that runs, has run last on its volume, or waits to be committed; seen at most 2 s ago. While Gluster
   * takes longer than that to answer: as it was seen last, with a `problem`.
   */
  list (): Promise<OperationList> {
    return patiently(this.#operations)
  }

  /** The same, however long it takes. */
  look (): Promise<OperationList> {
    return this.#operations.read()
  }

  /** Throws `operation-not-found`. */
  async find (operationId: string): Promise<Operation> {
    const { items, ended = [] } = await this.list()
    const found = [...items, ...ended].find(item => item.operationId === operationId)
    if (found !== undefined) return found
    throw new AppError('operation-not-found', `Gluster knows of no operation ${operationId}. It forgets an operation that is stopped or committed, and when a newer one is started on the volume; the result of the task that stopped it holds the last numbers.`)
  }

  /** Since when an operation that Gluster calls running has got no further; undefined while it does. */
  stalledSince (operationId: string): string | undefined {
    return this.#movement.stalledSince(operationId)
  }

  /** Sets how hard an operation works, and returns it. Throws `operation-not-found`, `operation-not-running`, `host-away`. */
  async tune (operationId: string, throttle: Throttle): Promise<Operation> {
    const { volume, state, ended } = await this.find(operationId)
    if (ended !== undefined || state === 'gone') throw new AppError('operation-not-running', `The operation ${operationId} on ${volume} is over.`)
    await setThrottle(this.#gluster, volume, throttle)
    this.expire()
    return { ...await this.find(operationId), throttle }
  }

  /** Every volume, seen at most 2 s ago. */
  volumes (): Promise<GlusterVolumeList> {
    return patiently(this.#volumes, () => this.#noted)
  }

  /** For readiness checks: quick, without a lock, and never an error. */
  availability (): Promise<Availability> {
    return this.#availability.read()
  }

  /** The same, at once: as it was seen last if Gluster needs longer than a moment. */
  async lastAvailability (): Promise<Availability> {
    return await this.#availability.readWithin(momentMs, last => last ?? { available: false, code: 'gluster-unresponsive', detail: 'Gluster has not answered yet.' })
  }

  /** Something was changed: whoever asks next sees it. */
  expire (): void {
    this.#operations.expire()
    this.#volumes.expire()
  }

  async #probe (): Promise<Availability> {
    try {
      await listHosts(this.#gluster, { timeoutMs: probeMs })
      return { available: true }
    } catch (error) {
      if (!(error instanceof AppError)) throw error
      return { available: false, code: error.code, detail: error.message }
    }
  }

  async #look (): Promise<OperationList> {
    const observedAt = new Date().toISOString()
    const { volumes, problem: oddVolume } = await readAllVolumes(this.#gluster)
    const problem = oddVolume === undefined ? {} : { problem: { code: 'gluster-unexpected', detail: `A volume cannot be read: ${oddVolume}` } }
    if (!volumes.some(volume => volume.state === 'started')) return { items: this.#forgetOthers([]), ...problem, observedAt }
    const hosts = await listHosts(this.#gluster)
    const { tasks, unknown } = await this.#tasks(volumes)
    const own = volumes.flatMap(volume => (tasks.get(volume.volume) ?? []).map(task => ({ volume, task })))
    const reports = own.length === 0 ? { told: new Map<string, Told>() } : await this.#reports(own, observedAt)
    // each answer costs the peer a lock on every volume
    const views = await this.#peers.look(tasks, own.length === 0 ? [] : peersToAsk(volumes, hosts))
    const look = { volumes, hosts, views, observedAt }
    const items = volumes.filter(({ volume }) => tasks.has(volume)).flatMap(volume =>
      tasksOn(views, volume.volume).flatMap(task => {
        const { operationId } = task
        // one that only another host knows has no report; one that this host knows, and that ended since, is left out
        const told = reports.told.get(operationId)
        return told === undefined && reports.told.has(operationId) ? [] : this.#describe(volume, task, told ?? {}, look)
      }))
    this.#noted = { items: volumes.map(volume => describeVolume(volume, undefined, items)), observedAt }
    const ended = this.#ended(volumes, hosts).filter(({ operationId }) => items.every(item => item.operationId !== operationId))
    return { items: this.#forgetOthers(items), ...(unknown.length > 0 && { unknown }), ...(ended.length > 0 && { ended }), ...problem, observedAt }
  }

  #ended (volumes: readonly VolumeInfo[], hosts: readonly PoolHost[]): Operation[] {
    const nameOf = namesOf(volumes, hosts, this.#hostId)
    return volumes.flatMap(volume => endedOn(volume, nameOf))
  }

  /** How far the operations are; and what the bricks hold, from time to time, for the estimates. */
  async #reports (own: readonly OwnTask[], observedAt: string): Promise<Reports> {
    const withBricks = this.#usage === undefined || performance.now() >= this.#usage.until || own.some(({ task }) => !this.#seen.has(task.operationId))
    const reports = await this.#reporter.read(own, { withBricks })
    if (!withBricks) return reports
    // when the bricks cannot be asked there is no estimate, rather than one from old numbers
    this.#usage = reports.bricks === undefined ? undefined : { bricks: reports.bricks, at: observedAt, until: performance.now() + usageAgeMs }
    for (const seen of this.#seen.values()) delete seen.moved
    return reports
  }

  // A volume that somebody has locked is missing from the answer about all of them: that is not the end of its operation.
  // All are asked for once more, and not each: the number of calls must not grow with the number of volumes.
  async #tasks (volumes: readonly VolumeInfo[]): Promise<{ tasks: Map<string, VolumeTask[]>, unknown: NonNullable<OperationList['unknown']> }> {
    const { tasks, problems } = await listTasks(this.#gluster)
    const missing = (): string[] => volumes.flatMap(({ state, volume }) => state === 'started' && !tasks.has(volume) ? volume : [])
    if (missing().length > 0) {
      const again = await listTasks(this.#gluster)
      for (const [volume, found] of again.tasks) tasks.set(volume, found)
      for (const [volume, problem] of again.problems) problems.set(volume, problem)
    }
    const detail = 'Another command has locked the volume: Gluster does not tell what runs on it. Ask again.'
    const odd = [...problems].map(([volume, problem]) => ({ volume, code: 'gluster-unexpected', detail: `What runs on it cannot be read: ${problem}` }))
    return { tasks, unknown: [...missing().map(volume => ({ volume, code: 'gluster-busy', detail })), ...odd] }
  }

  #describe (volume: VolumeInfo, task: VolumeTask, told: { report?: StatusReport, problem?: { code: string, detail: string } }, look: Look): Operation {
    const { volumes, hosts, views, observedAt } = look
    const ownUuid = hosts.find(({ host }) => host === 'localhost')?.hostUuid ?? ''
    const operation = describeOperation({
      volume,
      task,
      ...told,
      views: viewsOf(views, ownUuid, volume.volume),
      rejected: new Set(hosts.filter(host => host.rejected).map(({ hostUuid }) => hostUuid)),
      nameOf: namesOf(volumes, hosts, this.#hostId),
      observedAt
    })
    const nodes = this.#movement.note(operation)
    const isDoubtful = nodes.some(({ restarted, stalledSince }) => restarted === true || stalledSince !== undefined)
    return { ...withThrottle(operation, volume), nodes, complete: operation.complete && !isDoubtful, ...this.#started(operation), ...this.#prospects(volume, task, operation) }
  }

  // Gluster does not tell when an operation was started. While it runs, its run time does, to the second.
  #started ({ operationId, startedAt, state, totals, observedAt }: Operation): { startedAt?: string } {
    const seen = this.#remember(operationId)
    if (startedAt === undefined && seen.startedAt === undefined && state === 'running') {
      seen.startedAt = new Date(Date.parse(observedAt) - totals.runtimeSeconds * 1000).toISOString()
    }
    const known = startedAt ?? seen.startedAt
    return known === undefined ? {} : { startedAt: known }
  }

  #prospects (volume: VolumeInfo, task: VolumeTask, operation: Operation): Pick<Operation, 'rate' | 'estimate'> {
    const rate = this.#rates.measure(operation, performance.now())
    const seen = this.#remember(operation.operationId)
    // when the space in use was asked for, so were the numbers
    seen.moved ??= operation.totals.bytes
    if (operation.state !== 'running' || operation.kind === 'fix-layout') return {}
    const usage = this.#usage
    const remainder = usage === undefined ? undefined : remainderOf(volume, task, usage)
    if (usage === undefined || remainder === undefined) return rate === undefined ? {} : { rate }
    const bytesLeft = Math.max(0, remainder.bytesLeft - Math.max(0, operation.totals.bytes - seen.moved))
    return {
      ...(rate !== undefined && { rate }),
      estimate: {
        bytesLeft,
        ...(rate !== undefined && rate.bytesPerSecond > 0 && { secondsLeft: Math.round(bytesLeft / rate.bytesPerSecond) }),
        basis: remainder.basis,
        usageAt: usage.at
      }
    }
  }

  async #bricks (): Promise<{ bricks?: Map<string, BrickDetail[]>, problem?: { code: string, detail: string } }> {
    try {
      return { bricks: await listBricks(this.#gluster) }
    } catch (error) {
      if (!(error instanceof AppError)) throw error
      return { problem: { code: error.code, detail: error.message } }
    }
  }

  async #lookAtVolumes (): Promise<GlusterVolumeList> {
    const observedAt = new Date().toISOString()
    const { volumes, problem: oddVolume } = await readAllVolumes(this.#gluster)
    const { items: operations } = await this.look()
    const { bricks, problem } = volumes.some(volume => volume.state === 'started') ? await this.#bricks() : { bricks: new Map<string, BrickDetail[]>() }
    return {
      items: volumes.map(volume => describeVolume(volume, bricks?.get(volume.volume), operations)),
      ...(problem !== undefined ? { problem } : oddVolume !== undefined && { problem: { code: 'gluster-unexpected', detail: `A volume cannot be read: ${oddVolume}` } }),
      observedAt
    }
  }

  #remember (operationId: string): Seen {
    const seen = this.#seen.get(operationId) ?? {}
    this.#seen.set(operationId, seen)
    return seen
  }

  #forgetOthers (items: Operation[]): Operation[] {
    const current = new Set(items.map(item => item.operationId))
    if (current.size === 0) this.#usage = undefined
    this.#rates.keep(current)
    this.#movement.keep(current)
    for (const id of this.#seen.keys()) if (!current.has(id)) this.#seen.delete(id)
    return items
  }
}

/** What is seen, or was seen last when Gluster takes long, or is found not to answer at all. */
async function patiently<T extends { problem?: { code: string, detail: string } }> (snapshot: Snapshot<T>, noted: () => T | undefined = () => undefined): Promise<T> {
  try {
    return await snapshot.readWithin(patienceMs, last => late(last ?? noted()))
  } catch (error) {
    const last = snapshot.last ?? noted()
    if (last === undefined || !(error instanceof AppError) || !/^gluster-(unresponsive|busy)$/.test(error.code)) throw error
    return { ...last, problem: { code: error.code, detail: `${error.message} This is what was seen last, at observedAt.` } }
  }
}

/** What was seen last, for who cannot wait for what is to be seen. */
function late<T extends object> (last: T | undefined): T & { problem: typeof tooSlow } {
  if (last === undefined) throw new AppError('gluster-unresponsive', `Gluster has not answered for ${patienceMs} ms, and had not before: nothing is known yet. Ask again; see gluster pool list.`)
  return { ...last, problem: tooSlow }
}

function peersToAsk (volumes: readonly VolumeInfo[], hosts: readonly PoolHost[]): PoolHost[] {
  const holders = new Set(volumes.flatMap(volume => volume.bricks.map(brick => brick.hostUuid)))
  return hosts.filter(({ host, hostUuid, connected }) => connected && host !== 'localhost' && holders.has(hostUuid))
}
