import type { Uses } from './kind.ts'

/**
 * Which runs use which images and volumes, many readers or one writer each. Only this agent's own: other hosts are
 * kept away by the lease on the storage. This is what makes the refusal quick and able to name the holder.
 */
export class Usage<Holder> {
  readonly #shared = new Map<string, Set<Holder>>()
  readonly #exclusive = new Map<string, Holder>()

  /** Somebody who stands in the way of this use, if there is anybody. */
  conflict ({ shared, exclusive }: Uses): { name: string, holder: Holder } | undefined {
    for (const name of [...shared, ...exclusive]) {
      const holder = this.#exclusive.get(name)
      if (holder !== undefined) return { name, holder }
    }
    for (const name of exclusive) {
      const [holder] = this.#shared.get(name) ?? []
      if (holder !== undefined) return { name, holder }
    }
    return undefined
  }

  take ({ shared, exclusive }: Uses, holder: Holder): void {
    for (const name of exclusive) this.#exclusive.set(name, holder)
    for (const name of shared) {
      const holders = this.#shared.get(name)
      if (holders === undefined) this.#shared.set(name, new Set([holder]))
      else holders.add(holder)
    }
  }

  release ({ shared, exclusive }: Uses, holder: Holder): void {
    for (const name of exclusive) this.#exclusive.delete(name)
    for (const name of shared) {
      const holders = this.#shared.get(name)
      holders?.delete(holder)
      if (holders?.size === 0) this.#shared.delete(name)
    }
  }
}
