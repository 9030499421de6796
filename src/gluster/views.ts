import { AppError } from '../errors.ts'
import type { PoolHost, VolumeTask } from './answers.ts'
import type { Gluster } from './cli.ts'
import { listTasksOf } from './commands.ts'
import type { View } from './observe.ts'

type Tasks = ReadonlyMap<string, readonly VolumeTask[]>

/** What every host that answered takes for the current operations, this host included. */
export interface Views {
  own: Tasks
  others: ReadonlyMap<string, Tasks>
  /** Volumes of which the hosts tell different operations, but not for long: one may just be starting or stopping. */
  unsettled: ReadonlySet<string>
}

const freshMs = 10_000
// The host that starts an operation knows of it ten seconds before the others do.
const settleMs = 15_000

/**
 * Asks the other hosts what they take for the current operations. A host that was down while one was started may tell
 * of an older one for as long as nothing newer is started.
 *
 * Each answer costs the host a lock on every volume for some 50 ms, so they are kept for ten seconds; whatever looks
 * like a disagreement is asked for again.
 */
export class Peers {
  readonly #ask: (host: string) => Promise<Tasks>
  readonly #settleMs: number
  #known: { at: number, hosts: string, others: Map<string, Tasks> } | undefined
  /** By volume: what the hosts told of it, and since when they do. */
  #disputes = new Map<string, { told: string, since: number }>()

  constructor (gluster: Gluster, waitMs = settleMs) {
    this.#ask = host => listTasksOf(gluster, host)
    this.#settleMs = waitMs
  }

  /** `own` is what this host's glusterd has just told, `hosts` the other hosts that hold bricks and are connected. */
  async look (own: Tasks, hosts: readonly PoolHost[]): Promise<Views> {
    const recent = this.#recent(hosts)
    let others = recent ?? await this.#askAll(hosts)
    if (recent !== undefined && disputesOf(own, others).size > 0) others = await this.#askAll(hosts)
    return { own, others, unsettled: this.#unsettled(disputesOf(own, others)) }
  }

  #recent (hosts: readonly PoolHost[]): Map<string, Tasks> | undefined {
    const known = this.#known
    return known !== undefined && performance.now() - known.at < freshMs && known.hosts === setOf(hosts) ? known.others : undefined
  }

  async #askAll (hosts: readonly PoolHost[]): Promise<Map<string, Tasks>> {
    const others = new Map<string, Tasks>()
    for (const { hostUuid, host } of hosts) {
      try {
        others.set(hostUuid, await this.#ask(host))
      } catch (error) {
        // A host that cannot be asked has no opinion; that it is down is told by `missing`.
        if (!(error instanceof AppError)) throw error
      }
    }
    this.#known = { at: performance.now(), hosts: setOf(hosts), others }
    return others
  }

  #unsettled (disputes: ReadonlyMap<string, string>): Set<string> {
    const now = performance.now()
    this.#disputes = new Map([...disputes].map(([volume, told]) => {
      const before = this.#disputes.get(volume)
      return [volume, before?.told === told ? before : { told, since: now }]
    }))
    return new Set([...this.#disputes].filter(([, { since }]) => now - since < this.#settleMs).map(([volume]) => volume))
  }
}

/** The views on one volume. A volume that a host does not list is one it has no opinion on. */
export function viewsOf (views: Views, ownUuid: string, volume: string): View[] {
  return [[ownUuid, views.own] as const, ...opinions(views, volume)].flatMap(([hostUuid, tasks]) => {
    const told = tasks.get(volume)
    if (told === undefined) return []
    const [task] = told
    return [{ hostUuid, ...(task !== undefined && { task }) }]
  })
}

/** The operations that any host tells of on a volume; this host's come first. */
export function tasksOn (views: Views, volume: string): VolumeTask[] {
  const told = [views.own, ...opinions(views, volume).values()].flatMap(tasks => tasks.get(volume) ?? [])
  return told.filter((task, index) => told.findIndex(({ operationId }) => operationId === task.operationId) === index)
}

function opinions ({ others, unsettled }: Views, volume: string): ReadonlyMap<string, Tasks> {
  return unsettled.has(volume) ? new Map() : others
}

/** The volumes of which the hosts tell different operations, with what they tell. */
function disputesOf (own: Tasks, others: ReadonlyMap<string, Tasks>): Map<string, string> {
  return new Map([...own].flatMap(([volume, tasks]) => {
    const told = [['', tasks] as const, ...[...others].map(([host, theirs]) => [host, theirs.get(volume)] as const)]
      .flatMap(([host, theirs]) => theirs === undefined ? [] : [{ host, operationId: theirs[0]?.operationId ?? '' }])
    return new Set(told.map(({ operationId }) => operationId)).size > 1 ? [[volume, JSON.stringify(told)]] : []
  }))
}

function setOf (hosts: readonly PoolHost[]): string {
  return hosts.map(host => host.hostUuid).sort().join()
}
