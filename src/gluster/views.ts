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
}

/** What a host told, and when. */
interface Opinion {
  at: number
  tasks: Tasks
  /** By volume: since when it tells of another operation than this host, which it told again at `at`. */
  disputes: Map<string, { told: string, since: number }>
}

const freshMs = 10_000
// The host that starts an operation knows of it ten seconds before the others do.
const settleMs = 15_000

/**
 * Asks the other hosts what they take for the current operations. A host that was down while one was started may tell
 * of an older one for as long as nothing newer is started.
 *
 * Each answer costs the host a lock on every volume for some 50 ms, and this one a run of the gluster command. So one
 * host is asked at each look: the one that was asked longest ago. A host that tells of another operation counts only
 * when it was asked again after a while: the operation may just be starting or stopping.
 */
export class Peers {
  readonly #ask: (host: string) => Promise<Tasks>
  readonly #settleMs: number
  readonly #opinions = new Map<string, Opinion>()
  /** When each was asked, also in vain. */
  readonly #asked = new Map<string, number>()

  constructor (gluster: Gluster, waitMs = settleMs) {
    this.#ask = async host => await listTasksOf(gluster, host)
    this.#settleMs = waitMs
  }

  /** `own` is what this host's glusterd has just told, `hosts` the other hosts that hold bricks and are connected. */
  async look (own: Tasks, hosts: readonly PoolHost[]): Promise<Views> {
    this.#forgetOthers(hosts)
    const next = this.#next(own, hosts)
    if (next !== undefined) await this.#hear(own, next)
    return { own, others: new Map([...this.#opinions].map(([host, opinion]) => [host, this.#settled(own, opinion)])) }
  }

  #next (own: Tasks, hosts: readonly PoolHost[]): PoolHost | undefined {
    const now = performance.now()
    const due = hosts.filter(({ hostUuid }) => {
      const at = this.#asked.get(hostUuid)
      const opinion = this.#opinions.get(hostUuid)
      return at === undefined || now - at >= freshMs || (opinion !== undefined && disputesOf(own, opinion.tasks).size > 0)
    })
    const askedAt = ({ hostUuid }: PoolHost): number => this.#asked.get(hostUuid) ?? -1
    return due.sort((a, b) => askedAt(a) - askedAt(b))[0]
  }

  async #hear (own: Tasks, { hostUuid, host }: PoolHost): Promise<void> {
    const before = this.#opinions.get(hostUuid)
    try {
      const tasks = await this.#ask(host)
      const at = performance.now()
      const disputes = new Map([...disputesOf(own, tasks)].map(([volume, told]) => {
        const known = before?.disputes.get(volume)
        return [volume, known?.told === told ? known : { told, since: at }]
      }))
      this.#opinions.set(hostUuid, { at, tasks, disputes })
    } catch (error) {
      // A host that cannot be asked has no opinion; that it is down is told by `missing`.
      if (!(error instanceof AppError)) throw error
      this.#opinions.delete(hostUuid)
    }
    this.#asked.set(hostUuid, performance.now())
  }

  /** What a host says of the volumes on which it agrees, or has disagreed for long. */
  #settled (own: Tasks, { at, tasks, disputes }: Opinion): Tasks {
    const now = disputesOf(own, tasks)
    return new Map([...tasks].filter(([volume]) => {
      const told = now.get(volume)
      if (told === undefined) return true
      const known = disputes.get(volume)
      return known?.told === told && at - known.since >= this.#settleMs
    }))
  }

  #forgetOthers (hosts: readonly PoolHost[]): void {
    const current = new Set(hosts.map(({ hostUuid }) => hostUuid))
    for (const known of [this.#opinions, this.#asked]) {
      for (const host of known.keys()) if (!current.has(host)) known.delete(host)
    }
  }
}

/** The views on one volume. A volume that a host does not list is one it has no opinion on. */
export function viewsOf ({ own, others }: Views, ownUuid: string, volume: string): View[] {
  return [[ownUuid, own] as const, ...others].flatMap(([hostUuid, tasks]) => {
    const told = tasks.get(volume)
    if (told === undefined) return []
    const [task] = told
    return [{ hostUuid, ...(task !== undefined && { task }) }]
  })
}

/** The operations that any host tells of on a volume; this host's come first. */
export function tasksOn ({ own, others }: Views, volume: string): VolumeTask[] {
  const told = [own, ...others.values()].flatMap(tasks => tasks.get(volume) ?? [])
  return told.filter((task, index) => told.findIndex(({ operationId }) => operationId === task.operationId) === index)
}

/** The volumes of which two hosts tell different operations, with what they tell. */
function disputesOf (own: Tasks, theirs: Tasks): Map<string, string> {
  return new Map([...own].flatMap(([volume, tasks]) => {
    const other = theirs.get(volume)
    const [mine = '', its = ''] = [tasks[0]?.operationId, other?.[0]?.operationId]
    return other === undefined || mine === its ? [] : [[volume, `${mine} ${its}`]]
  }))
}
