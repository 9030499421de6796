import type { SpaceClaim, SpaceGrant } from './protocol.ts'

interface Claimed {
  domain: string
  device: string
  bytes: number
}

/**
 * Knows how much space the copies of this agent are still going to take up, so that each one is accepted only if there is
 * room for it beside the others. Of copies of other hosts a claim says what their records tell.
 */
export class SpaceLedger {
  readonly #members = new Set<Map<string, Claimed>>()

  /** Begins the account of a command; it ends with `leave`. */
  join (): SpaceAccount {
    const claims = new Map<string, Claimed>()
    this.#members.add(claims)
    return {
      claim: claim => this.#claim(claims, claim),
      settle: (key, bytes) => {
        const claimed = claims.get(key)
        if (claimed !== undefined) claimed.bytes = bytes
      },
      leave: () => { this.#members.delete(claims) }
    }
  }

  /** What would come of a claim. It is not noted: who only asks is in nobody's way. */
  ask (claim: SpaceClaim): SpaceGrant {
    return this.#judge(claim)
  }

  /** Bytes that are still going to be taken up in a domain. */
  reservedIn (domain: string): number {
    return this.#sum(claimed => claimed.domain === domain)
  }

  /** The records of the copies that have claims in a domain. */
  keysIn (domain: string): string[] {
    return [...this.#members].flatMap(claims => [...claims].flatMap(([key, claimed]) => claimed.domain === domain ? key : []))
  }

  /** Look and note are one step: no other claim comes in between. */
  #claim (claims: Map<string, Claimed>, claim: SpaceClaim): SpaceGrant {
    const { domain, device, key, bytesNeeded } = claim
    claims.delete(key)
    const grant = this.#judge(claim)
    if (grant.granted) claims.set(key, { domain, device, bytes: bytesNeeded })
    return grant
  }

  #judge ({ device, bytesNeeded, bytesFree, bytesElsewhere = 0, force }: SpaceClaim): SpaceGrant {
    // domains may share a file system
    const bytesReserved = this.#sum(claimed => claimed.device === device) + bytesElsewhere
    const granted = force || bytesNeeded + bytesReserved <= bytesFree
    return { granted, bytesReserved }
  }

  #sum (counts: (claimed: Claimed) => boolean): number {
    let bytes = 0
    for (const claims of this.#members) for (const claimed of claims.values()) if (counts(claimed)) bytes += claimed.bytes
    return bytes
  }
}

/** The claims of one command. */
export interface SpaceAccount {
  claim (claim: SpaceClaim): SpaceGrant
  /** Notes what a copy is still going to take up, in bytes. */
  settle (key: string, bytes: number): void
  leave (): void
}
