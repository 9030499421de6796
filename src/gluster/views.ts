import { AppError } from '../errors.ts'
import type { PoolHost, VolumeTask } from './answers.ts'
import type { Gluster } from './cli.ts'
import { listTasks, listTasksOf } from './commands.ts'
import type { View } from './observe.ts'

type Tasks = ReadonlyMap<string, readonly VolumeTask[]>

/** What every host that answered takes for the current operations, this host included. */
export interface Views {
  own: Tasks
  others: ReadonlyMap<string, Tasks>
}

const freshMs = 10_000

/**
 * Asks the other hosts what they take for the current operations. A host that was down while one was started may tell
 * of an older one for as long as nothing newer is started.
 *
 * Each answer costs the host a lock on every volume for some 50 ms, so they are kept for ten seconds; whatever looks
 * like a disagreement is asked for again before it is told.
 */
export class Peers {
  readonly #gluster: Gluster
  #known: { at: number, hosts: string, others: Map<string, Tasks> } | undefined

  constructor (gluster: Gluster) {
    this.#gluster = gluster
  }

  /** `own` is what this host's glusterd has just told, `hosts` the other hosts that hold bricks and are connected. */
  async look (own: Tasks, hosts: readonly PoolHost[]): Promise<Views> {
    const known = this.#recent(hosts)
    const others = known ?? await this.#ask(hosts)
    if (agree(own, others)) return { own, others }
    const fresh = known === undefined ? others : await this.#ask(hosts)
    if (agree(own, fresh)) return { own, others: fresh }
    // If this host has told the same before and after, then it did so at the moment the others told something else.
    const again = await listTasks(this.#gluster)
    return { own: again, others: agree(own, new Map([['', again]])) ? fresh : new Map() }
  }

  #recent (hosts: readonly PoolHost[]): Map<string, Tasks> | undefined {
    const known = this.#known
    return known !== undefined && performance.now() - known.at < freshMs && known.hosts === setOf(hosts) ? known.others : undefined
  }

  async #ask (hosts: readonly PoolHost[]): Promise<Map<string, Tasks>> {
    const others = new Map<string, Tasks>()
    for (const { hostUuid, host } of hosts) {
      try {
        others.set(hostUuid, await listTasksOf(this.#gluster, host))
      } catch (error) {
        // A host that cannot be asked has no opinion; that it is down is told by `missing`.
        if (!(error instanceof AppError)) throw error
      }
    }
    this.#known = { at: performance.now(), hosts: setOf(hosts), others }
    return others
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

function agree (own: Tasks, others: ReadonlyMap<string, Tasks>): boolean {
  return [...others.values()].every(tasks => [...tasks].every(([volume, told]) =>
    !own.has(volume) || own.get(volume)?.[0]?.operationId === told[0]?.operationId))
}

function setOf (hosts: readonly PoolHost[]): string {
  return hosts.map(host => host.hostUuid).sort().join()
}
