import { setTimeout as sleep } from 'node:timers/promises'
import type { GlusterVolumeList, Operation, OperationList } from '../api/operation.ts'
import { AppError, type ErrorCode } from '../errors.ts'
import type { BrickDetail, PoolHost, StatusReport, VolumeInfo, VolumeTask } from './answers.ts'
import type { Gluster } from './cli.ts'
import { listBricks, listHosts, listTasks, listVolumes, readStatus } from './commands.ts'
import { remainderOf, type Usage } from './estimate.ts'
import { Movement } from './movement.ts'
import { describeOperation, namesOf, partakers } from './observe.ts'
import { Rates } from './rates.ts'
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
  /** The space in use, and the bytes moved by then. */
  usage?: Usage & { moved: number, until: number }
}

/** What runs on the Gluster volumes of this cluster. Everything is asked for anew; nothing is remembered but what rates and estimates need. */
export class Operations {
  readonly #gluster: Gluster
  readonly #hostId: string
  readonly #peers: Peers
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
    this.#operations = new Snapshot(() => this.#look(), maxAgeMs)
    this.#volumes = new Snapshot(() => this.#lookAtVolumes(), maxAgeMs)
    this.#availability = new Snapshot(() => this.#probe(), maxAgeMs)
  }

  /**
   * Every operation that runs, has run last on its volume, or waits to be committed; seen at most 2 s ago. While Gluster
   * takes longer than that to answer: as it was seen last, with a `problem`.
   */
  list (): Promise<OperationList> {
    return this.#operations.readWithin(patienceMs, last => ({ ...last, problem: tooSlow }))
  }

  /** The same, however long it takes. */
  look (): Promise<OperationList> {
    return this.#operations.read()
  }

  /** Throws `operation-not-found`. */
  async find (operationId: string): Promise<Operation> {
    const { items } = await this.list()
    const found = items.find(item => item.operationId === operationId)
    if (found !== undefined) return found
    throw new AppError('operation-not-found', `Gluster knows of no operation ${operationId}. It forgets an operation that is stopped or committed, and when a newer one is started on the volume; the result of the task that stopped it holds the last numbers.`)
  }

  /** Since when an operation that Gluster calls running has got no further; undefined while it does. */
  stalledSince (operationId: string): string | undefined {
    return this.#movement.stalledSince(operationId)
  }

  /** Every volume, seen at most 2 s ago. */
  volumes (): Promise<GlusterVolumeList> {
    return this.#volumes.readWithin(patienceMs, last => ({ ...last, problem: tooSlow }))
  }

  /** For readiness checks: quick, without a lock, and never an error. */
  availability (): Promise<Availability> {
    return this.#availability.read()
  }

  /** The same, at once: as it was seen last if Gluster needs longer than a moment. */
  async lastAvailability (): Promise<Availability> {
    const unknown: Availability = { available: false, code: 'gluster-unresponsive', detail: 'Gluster has not answered yet.' }
    return await Promise.race([
      this.#availability.readWithin(momentMs, last => last),
      sleep(momentMs, unknown, { ref: false })
    ])
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
    const volumes = await listVolumes(this.#gluster)
    if (!volumes.some(volume => volume.state === 'started')) return { items: this.#forgetOthers([]), observedAt }
    const hosts = await listHosts(this.#gluster)
    const { tasks, unknown } = await this.#tasks(volumes)
    // each answer costs the peer a lock on every volume
    const isIdle = [...tasks.values()].every(found => found.length === 0)
    const views = await this.#peers.look(tasks, isIdle ? [] : peersToAsk(volumes, hosts))
    const items: Operation[] = []
    for (const volume of volumes.filter(({ volume: name }) => tasks.has(name))) {
      for (const task of tasksOn(views, volume.volume)) {
        const operation = await this.#describe(volume, task, { volumes, hosts, views, observedAt })
        if (operation !== undefined) items.push(operation)
      }
    }
    return { items: this.#forgetOthers(items), ...(unknown.length > 0 && { unknown }), observedAt }
  }

  // A volume that somebody has locked is missing from the answer about all of them: that is not the end of its operation.
  // All are asked for once more, and not each: the number of calls must not grow with the number of volumes.
  async #tasks (volumes: readonly VolumeInfo[]): Promise<{ tasks: Map<string, VolumeTask[]>, unknown: NonNullable<OperationList['unknown']> }> {
    const tasks = await listTasks(this.#gluster)
    const missing = (): string[] => volumes.flatMap(({ state, volume }) => state === 'started' && !tasks.has(volume) ? volume : [])
    if (missing().length > 0) {
      for (const [volume, found] of await listTasks(this.#gluster)) tasks.set(volume, found)
    }
    const detail = 'Another command has locked the volume: Gluster does not tell what runs on it. Ask again.'
    return { tasks, unknown: missing().map(volume => ({ volume, code: 'gluster-busy', detail })) }
  }

  async #describe (volume: VolumeInfo, task: VolumeTask, look: { volumes: VolumeInfo[], hosts: PoolHost[], views: Views, observedAt: string }): Promise<Operation | undefined> {
    const { volumes, hosts, views, observedAt } = look
    const isOwn = views.own.get(volume.volume)?.some(own => own.operationId === task.operationId) === true
    const told = isOwn ? await this.#report(volume, task) : {}
    if (told === undefined) return undefined
    const disconnected = await this.#disconnected(volume, task, told.report, hosts)
    const ownUuid = hosts.find(({ host }) => host === 'localhost')?.hostUuid ?? ''
    const operation = describeOperation({
      volume,
      task,
      ...told,
      views: viewsOf(views, ownUuid, volume.volume),
      disconnected,
      rejected: new Set(hosts.filter(host => host.rejected).map(({ hostUuid }) => hostUuid)),
      nameOf: namesOf(volumes, hosts, this.#hostId),
      observedAt
    })
    const nodes = this.#movement.note(operation)
    const isDoubtful = nodes.some(({ restarted, stalledSince }) => restarted === true || stalledSince !== undefined)
    return { ...operation, nodes, complete: operation.complete && !isDoubtful, ...this.#started(operation), ...await this.#prospects(volume, task, operation) }
  }

  /** Undefined when the operation was stopped, committed or replaced a moment ago. */
  async #report (volume: VolumeInfo, task: VolumeTask): Promise<{ report?: StatusReport, problem?: { code: string, detail: string } } | undefined> {
    try {
      const report = await readStatus(this.#gluster, { ...task, volume: volume.volume })
      return report.operationId === task.operationId ? { report } : undefined
    } catch (error) {
      if (!(error instanceof AppError)) throw error
      if (error.code === 'operation-not-running' || error.code === 'volume-not-found') return undefined
      // One operation that cannot be told about must not hide the others.
      return { problem: { code: error.code, detail: error.message } }
    }
  }

  /** Hosts that were not connected before or after the report: in either case they may have been left out of it. */
  async #disconnected (volume: VolumeInfo, task: VolumeTask, report: StatusReport | undefined, before: readonly PoolHost[]): Promise<Set<string>> {
    const told = new Set(report?.nodes.map(node => node.hostUuid))
    const someoneIsSilent = partakers(volume, task).some(host => !told.has(host))
    const after = someoneIsSilent ? await listHosts(this.#gluster) : []
    return new Set([...before, ...after].filter(host => !host.connected).map(host => host.hostUuid))
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

  async #prospects (volume: VolumeInfo, task: VolumeTask, operation: Operation): Promise<Pick<Operation, 'rate' | 'estimate'>> {
    const rate = this.#rates.measure(operation, performance.now())
    if (operation.state !== 'running' || operation.kind === 'fix-layout') return {}
    const usage = await this.#usage(operation)
    const remainder = usage === undefined ? undefined : remainderOf(volume, task, usage)
    if (usage === undefined || remainder === undefined) return rate === undefined ? {} : { rate }
    const bytesLeft = Math.max(0, remainder.bytesLeft - Math.max(0, operation.totals.bytes - usage.moved))
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

  async #usage ({ operationId, totals, observedAt }: Operation): Promise<(Usage & { moved: number }) | undefined> {
    const seen = this.#remember(operationId)
    if (seen.usage !== undefined && performance.now() < seen.usage.until) return seen.usage
    const { bricks } = await this.#bricks()
    // when the bricks cannot be asked there is no estimate, rather than one from old numbers
    if (bricks === undefined) delete seen.usage
    else seen.usage = { bricks, at: observedAt, moved: totals.bytes, until: performance.now() + usageAgeMs }
    return seen.usage
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
    const volumes = await listVolumes(this.#gluster)
    const { items: operations } = await this.look()
    const { bricks, problem } = volumes.some(volume => volume.state === 'started') ? await this.#bricks() : { bricks: new Map<string, BrickDetail[]>() }
    return {
      items: volumes.map(volume => describeVolume(volume, bricks?.get(volume.volume), operations)),
      ...(problem !== undefined && { problem }),
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
    this.#rates.keep(current)
    this.#movement.keep(current)
    for (const id of this.#seen.keys()) if (!current.has(id)) this.#seen.delete(id)
    return items
  }
}

function peersToAsk (volumes: readonly VolumeInfo[], hosts: readonly PoolHost[]): PoolHost[] {
  const holders = new Set(volumes.flatMap(volume => volume.bricks.map(brick => brick.hostUuid)))
  return hosts.filter(({ host, hostUuid, connected }) => connected && host !== 'localhost' && holders.has(hostUuid))
}
