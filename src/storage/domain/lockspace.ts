import type { LeaseStatus } from '../../api/domain.ts'
import { joinLockspace, readLockspaces, sanlockError } from '../../sanlock/client.ts'
import { CommandError } from '../../system/run.ts'
import type { DomainPlace } from '../area.ts'
import type { LockspaceOptions } from '../protocol.ts'

const lookMs = 10_000

/**
 * Sees to it that this host is in the lockspace of an oVirt domain, as vdsm does when it activates the domain. Whoever has
 * joined it, and as whom, is all the same; it is never left, for others may rely on it.
 */
export class LockspaceKeeper {
  readonly #place: DomainPlace
  readonly #hostId: number | undefined
  #joining = false
  /** Why the last attempt to join failed. */
  #failure: string | undefined
  #nextAttempt = 0

  constructor (place: DomainPlace, { hostId }: LockspaceOptions) {
    this.#place = place
    this.#hostId = hostId
    // a daemon that is started anew has forgotten all lockspaces
    setInterval(() => { this.#watch() }, lookMs).unref()
    this.#watch()
  }

  /** How it is now; begins to join the lockspace if that is what is missing. Never throws. */
  async status (): Promise<LeaseStatus> {
    const { id } = this.#place
    const unavailable = (detail: string): LeaseStatus => ({ kind: 'sanlock', state: 'unavailable', ...(this.#hostId !== undefined && { hostId: this.#hostId }), detail })
    const joining = (hostId: number): LeaseStatus => ({ kind: 'sanlock', state: 'joining', hostId, detail: `This host is joining the lockspace of domain ${id} as host ${hostId}, which takes twenty seconds, and some minutes after it has died in it.` })
    try {
      const answer = await readLockspaces()
      if ('error' in answer && answer.error === sanlockError.denied) return unavailable('The agent may not ask the daemon of sanlock: its user must belong to the group sanlock.')
      if ('error' in answer) return unavailable(`The daemon of sanlock does not answer on this host (${answer.error}). Start it: systemctl start sanlock`)
      const found = answer.lockspaces.find(({ name }) => name === id)
      if (found?.changing === 'leaving') return unavailable(`This host is leaving the lockspace of domain ${id}: it has lost it, or somebody has told sanlock so.`)
      if (found?.changing === 'joining') return joining(found.hostId)
      if (found !== undefined) return { kind: 'sanlock', state: 'ready', hostId: found.hostId, ...(this.#hostId !== undefined && found.hostId !== this.#hostId && { detail: `The lockspace was joined as host ${found.hostId}, which is used; "sanlock.hostId" in the configuration is ${this.#hostId}.` }) }
      if (this.#hostId === undefined) return unavailable(`This host is not in the lockspace of domain ${id}. Activate the domain in the engine, or set "sanlock.hostId" in the configuration to the number that the engine has given this host.`)
      this.#join(this.#hostId)
      return this.#failure === undefined ? joining(this.#hostId) : unavailable(this.#failure)
    } catch (error) {
      return unavailable(error instanceof CommandError && error.notFound ? 'The program sanlock is not installed on this host (the package sanlock), or not in the PATH of the agent.' : `sanlock does not answer: ${error instanceof Error ? error.message : String(error)}`)
    }
  }

  #watch (): void {
    void this.status()
  }

  /** One attempt at a time, and not one after the other without a pause. */
  #join (hostId: number): void {
    if (this.#joining || performance.now() < this.#nextAttempt) return
    this.#joining = true
    const { id, path } = this.#place
    void joinLockspace({ lockspace: id, path: `${path}/dom_md/ids`, hostId }).then(result => {
      this.#failure = result >= 0 || result === sanlockError.exists || result === sanlockError.inProgress ? undefined : this.#wordsOf(result, hostId)
    }, (error: unknown) => {
      this.#failure = `sanlock failed: ${error instanceof Error ? error.message : String(error)}`
    }).finally(() => {
      this.#joining = false
      this.#nextAttempt = performance.now() + lookMs
    })
  }

  #wordsOf (result: number, hostId: number): string {
    const { id, path } = this.#place
    const what = `This host could not join the lockspace of domain ${id} as host ${hostId}`
    switch (result) {
      case sanlockError.hostIdBusy: return `${what}: another host has this number. Set "sanlock.hostId" in the configuration to the one that the engine has given this host.`
      case sanlockError.absent: return `${what}: sanlock does not find ${path}/dom_md/ids. It must see the domain at the same path as the agent.`
      case sanlockError.denied: return `${what}: sanlock may not open ${path}/dom_md/ids. Its user must belong to the group of the file.`
      default: return `${what}: sanlock says ${result}. Its log tells more.`
    }
  }
}
