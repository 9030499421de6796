/** A running copy, as far as its bandwidth goes. All in bytes per second. */
export interface Claim {
  /** What its caller allows it; null: no limit. */
  own: number | null
  /** The domains that it reads and writes. */
  domains: readonly string[]
}

/** Ceilings of the host, and of domains by their id. */
export interface Ceilings {
  host?: number | undefined
  domains: ReadonlyMap<string, number>
}

interface Bound {
  limit: number
  members: number[]
}

/**
 * Divides the ceilings among the copies, max-min fair: no copy can get more without taking it from one that has no more
 * than it. What a slow copy leaves, the others get. Null: nothing limits this copy.
 *
 * Progressive filling (Bertsekas and Gallager, Data Networks, 6.5.2): all rates grow alike until a limit is reached; what
 * is under it stays as it is, the rest grows on.
 */
export function share (claims: readonly Claim[], ceilings: Ceilings): Array<number | null> {
  const all = claims.map((_, index) => index)
  const bounds: Bound[] = [
    ...(ceilings.host === undefined ? [] : [{ limit: ceilings.host, members: all }]),
    ...[...ceilings.domains].map(([id, limit]) => ({ limit, members: all.filter(index => claims[index]?.domains.includes(id)) })),
    ...claims.flatMap(({ own }, index) => own === null ? [] : [{ limit: own, members: [index] }])
  ]
  const shares: Array<number | null> = claims.map(() => null)
  const open = new Set(all)
  for (;;) {
    const levels = bounds.flatMap(({ limit, members }) => {
      const growing = members.filter(index => open.has(index))
      const taken = members.reduce((sum, index) => sum + (open.has(index) ? 0 : shares[index] ?? 0), 0)
      return growing.length === 0 ? [] : [{ level: (limit - taken) / growing.length, growing }]
    })
    const lowest = levels.sort((a, b) => a.level - b.level)[0]
    if (lowest === undefined) return shares
    for (const index of lowest.growing) {
      // however many share it, each goes on
      shares[index] = Math.max(1, Math.floor(lowest.level))
      open.delete(index)
    }
  }
}

/** Keeps the bandwidth of running copies in line with the ceilings, whenever one begins, ends, or is changed. */
export class Shares {
  readonly #ceilings: Ceilings
  readonly #running = new Set<{ claim: Claim, told: number | null, tell: (bandwidth: number | null) => void }>()

  constructor (ceilings: Ceilings) {
    this.#ceilings = ceilings
  }

  /** Begins to give a copy its share; `tell` is called now and whenever it changes. */
  join (claim: Claim, tell: (bandwidth: number | null) => void): { change: (claim: Partial<Claim>) => void, leave: () => void } {
    const member = { claim, told: null, tell }
    this.#running.add(member)
    this.#divide()
    return {
      change: change => {
        member.claim = { ...member.claim, ...change }
        this.#divide()
      },
      leave: () => {
        this.#running.delete(member)
        this.#divide()
      }
    }
  }

  #divide (): void {
    const members = [...this.#running]
    for (const [index, bandwidth] of share(members.map(({ claim }) => claim), this.#ceilings).entries()) {
      const member = members[index]
      if (member === undefined || member.told === bandwidth) continue
      member.told = bandwidth
      member.tell(bandwidth)
    }
  }
}
