import type { Operation, OperationNode } from '../api/operation.ts'

/** What a host told last, and since when it has told the same. */
interface Seen {
  numbers: string
  /** Milliseconds, wall clock. */
  since: number
  node: OperationNode
  restarted: boolean
}

type Watched = Pick<Operation, 'operationId' | 'nodes' | 'observedAt'>

/** The run time of a host that is at it grows with every look, whatever it moves. */
const stalledMs = 60_000
const counters = ['files', 'bytes', 'scanned', 'failures', 'skipped', 'runtimeSeconds'] as const

/**
 * Watches from one look to the next whether the hosts get on. Gluster says "in progress" for ever of a process that has
 * been killed, and does not say when one began again and has lost its place.
 */
export class Movement {
  readonly #seen = new Map<string, Map<string, Seen>>()

  /** Takes note of a look, and returns the hosts with what their past says of them. */
  note ({ operationId, nodes, observedAt }: Watched): OperationNode[] {
    const now = Date.parse(observedAt)
    const longest = Math.max(0, ...nodes.map(({ runtimeSeconds }) => runtimeSeconds))
    const hosts = this.#seen.get(operationId) ?? new Map<string, Seen>()
    this.#seen.set(operationId, hosts)
    return nodes.map(node => {
      const last = hosts.get(node.hostUuid)
      const numbers = JSON.stringify([node.state, ...counters.map(name => node[name])])
      const restarted = last?.restarted === true || hasGoneBack(node, last?.node) || isFarBehind(node, longest)
      const since = last?.numbers === numbers ? last.since : now
      hosts.set(node.hostUuid, { numbers, since, node, restarted })
      return { ...node, ...(restarted && { restarted }), ...(isStalled({ node, since }, now) && { stalledSince: new Date(since).toISOString() }) }
    })
  }

  /** Since when none of the hosts that Gluster calls running has got on; undefined while one does. */
  stalledSince (operationId: string): string | undefined {
    const running = [...this.#seen.get(operationId)?.values() ?? []].filter(({ node }) => node.state === 'running')
    if (running.length === 0 || !running.every(seen => isStalled(seen, Date.now()))) return undefined
    return new Date(Math.max(...running.map(({ since }) => since))).toISOString()
  }

  /** Forgets all other operations. */
  keep (operationIds: ReadonlySet<string>): void {
    for (const id of this.#seen.keys()) if (!operationIds.has(id)) this.#seen.delete(id)
  }
}

function hasGoneBack (node: OperationNode, last: OperationNode | undefined): boolean {
  return last !== undefined && counters.some(name => node[name] < last[name])
}

// All hosts begin at the same time. Of one that has ended that says nothing: it may have had little to do.
function isFarBehind ({ state, runtimeSeconds }: OperationNode, longest: number): boolean {
  return state === 'running' && longest - runtimeSeconds > stalledMs / 1000 && runtimeSeconds < longest / 2
}

function isStalled ({ node, since }: Pick<Seen, 'node' | 'since'>, now: number): boolean {
  return node.state === 'running' && now - since >= stalledMs
}
