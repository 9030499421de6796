import { setTimeout as sleep } from 'node:timers/promises'
import type { LockStatus } from '../../api/domain.ts'
import { closeFd, firstNames, NotAFileError, type Directory } from '../../system/directory.ts'
import { removeFile } from '../../system/durable.ts'
import { hasErrno } from '../../system/errno.ts'
import { hasEnded, ownMark } from '../../system/process-mark.ts'
import { openArea, openHosts, type Area, type DomainPlace } from '../area.ts'
import { probe, type Probe } from '../lease.ts'
import { hostFilePattern, OwnHostFile, readHostFile } from './host-file.ts'
import {
  beatMs, due, isReadDue, isUnclear, judgePeers, newPeer, seen, tried, watchMs, type HostMark, type Peer, type Self
} from './peers.ts'

/** Host files that are looked at: more than hosts share a domain. */
const maxPeers = 1000
const maxComplaints = 100
/** For how long after the last change of the others' names the lock is made sure of before each beat. */
const attentiveMs = 30_000
/** How often it is without one: each time takes a process. */
const confirmMs = 30_000

/**
 * Shows others that this agent is here, and finds out whether their locks and ours exclude each other: the proof that
 * leases work. Runs in the domain process, one step after the other: a storage that hangs holds up one of its threads.
 */
export class LockWatch {
  readonly #place: DomainPlace
  readonly #self: Self
  readonly #report: (status: LockStatus) => void
  readonly #warn: (message: string, error: unknown) => void
  readonly #peers = new Map<string, Peer>()
  readonly #probes = new Map<string, Probe>()
  #own: OwnHostFile | undefined
  /** The directory that the own file was made in: the file system can be mounted anew. */
  #madeAt = 0
  #beatAt = -Infinity
  #confirmedAt = -Infinity
  #changedAt = -Infinity
  #names = ''
  #reported = ''
  readonly #complaints = new Set<string>()

  constructor (place: DomainPlace, { self, report, warn }: {
    self: Omit<Self, 'domain'>
    /** Called with the first judgement, and with each that differs from the one before. */
    report: (status: LockStatus) => void
    warn: (message: string, error: unknown) => void
  }) {
    this.#place = place
    this.#self = { ...self, domain: place.id }
    this.#report = report
    this.#warn = warn
  }

  start (): void {
    void this.#run()
  }

  async #run (): Promise<never> {
    for (;;) {
      try {
        await this.#visit()
      } catch (error) {
        // the domain is not there: that is reported by those who read it
        this.#complain('could not be looked at', error)
      }
      const isWaiting = [...this.#peers.values()].some(isUnclear)
      await sleep(isWaiting ? watchMs : beatMs)
    }
  }

  async #visit (): Promise<void> {
    const area = await openArea(this.#place).catch(async (error: unknown) => {
      await this.#leave()
      throw error
    })
    try {
      await this.#round(area)
    } finally {
      await area.close()
    }
  }

  /** Closes every file: one kept open would keep a file system that was unmounted lazily, or is broken, from going away. */
  async #leave (): Promise<void> {
    this.#meet([])
    await this.#abandon()
  }

  async #round (area: Area): Promise<void> {
    const hosts = await openHosts(area)
    if (hosts === undefined) {
      this.#meet([])
      return this.#judge()
    }
    try {
      // shows itself first: of two that come at the same time, at least one finds the other
      if (this.#own === undefined) await this.#beat(hosts, area)
      const names = await firstNames(hosts, maxPeers, ({ name }) => hostFilePattern.test(name) && name !== this.#own?.name)
      // before the beat: a newcomer is waiting for one that proves something
      this.#meet(names)
      if (performance.now() - this.#beatAt >= beatMs - watchMs / 2) await this.#beat(hosts, area)
      for (const name of names) await this.#attend(hosts, name)
    } finally {
      await closeFd(hosts.fd)
    }
    this.#judge()
  }

  /** Writes the heartbeat, into a new file if the one that there was is lost. */
  async #beat (hosts: Directory, area: Area): Promise<void> {
    const now = performance.now()
    // after a pause, as of a host that was cut off or stood still, the lock may be gone
    const isLate = now - this.#beatAt > 2 * beatMs
    const confirm = isLate || now - this.#changedAt < attentiveMs || now - this.#confirmedAt >= confirmMs
    try {
      if (this.#own !== undefined && !await this.#own.isThere(hosts)) await this.#abandon()
      if (this.#own === undefined) {
        this.#own = await OwnHostFile.make(hosts, { mark: { ...this.#self, process: ownMark() }, local: area.local })
        this.#madeAt = now
        this.#confirmedAt = now
      } else if (await this.#own.beat(confirm)) {
        if (confirm) this.#confirmedAt = now
      } else {
        // it is somebody else's now, who watches whether we go on
        this.#confirmedAt = -Infinity
      }
    } catch (error) {
      this.#complain('takes no heartbeat of this host', error)
      await this.#abandon(hosts)
    }
    this.#beatAt = now
  }

  /** Lets go of the own file; the next beat makes another one. */
  async #abandon (hosts?: Directory): Promise<void> {
    const own = this.#own
    this.#own = undefined
    await own?.abandon(hosts).catch((error: unknown) => { this.#complain('still has an old file of this host', error) })
  }

  /** Takes note of who has come and gone. */
  #meet (names: readonly string[]): void {
    const now = performance.now()
    const all = names.join()
    if (all !== this.#names) this.#changedAt = now
    this.#names = all
    for (const name of names) if (!this.#peers.has(name)) this.#peers.set(name, newPeer(name, now))
    for (const name of this.#peers.keys()) if (!names.includes(name)) void this.#forget(name)
  }

  /** Reads a host file if it is time to, and does what is due then. */
  async #attend (hosts: Directory, name: string): Promise<void> {
    const before = this.#peers.get(name)
    if (before === undefined || !isReadDue(before, this.#self, performance.now())) return
    try {
      await this.#read(hosts, name)
      // taking the lock may make more due: removing the file of one that has ended, reading what it is watched from
      for (let step = 0; step < 3; step++) if (!await this.#advance(hosts, name)) break
    } catch (error) {
      if (hasErrno(error, 'ENOENT')) await this.#forget(name)
      else if (!(error instanceof NotAFileError)) this.#complain(`has a host file ${name} that cannot be looked at`, error)
    }
  }

  async #read (hosts: Directory, name: string): Promise<void> {
    const mark = await readHostFile(hosts, name)
    this.#change(name, peer => seen(peer, performance.now(), mark))
  }

  /** Does one thing that is due. Returns whether something was. */
  async #advance (hosts: Directory, name: string): Promise<boolean> {
    const peer = this.#peers.get(name)
    if (peer === undefined) return false
    switch (due(peer, performance.now(), hasProcessEnded(peer.mark))) {
      case undefined: return false
      case 'retry':
        await this.#probes.get(name)?.release()
        this.#probes.delete(name)
        await this.#try(hosts, name)
        return false
      case 'try':
        await this.#try(hosts, name)
        break
      case 'confirm': {
        const isOurs = await this.#probes.get(name)?.confirm() ?? false
        if (!isOurs) await this.#release(name)
        this.#change(name, peer => tried(peer, performance.now(), isOurs))
        return false
      }
      case 'remove':
        // nobody reopens it, and its owner, should it live, makes another one
        await removeFile(hosts, name)
        await this.#forget(name)
        return false
    }
    await this.#read(hosts, name)
    return true
  }

  async #try (hosts: Directory, name: string): Promise<void> {
    const found = await probe(hosts, name)
    if (found !== undefined) this.#probes.set(name, found)
    const wasRefused = this.#peers.get(name)?.lock === 'refused'
    this.#change(name, peer => tried(peer, performance.now(), found !== undefined))
    // its owner makes sure of its lock when it sees a new name. On an old acquaintance, that takes another one
    if (found !== undefined && wasRefused && performance.now() - this.#madeAt > attentiveMs) await this.#abandon(hosts)
  }

  async #release (name: string): Promise<void> {
    const held = this.#probes.get(name)
    this.#probes.delete(name)
    await held?.release()
  }

  async #forget (name: string): Promise<void> {
    this.#peers.delete(name)
    await this.#release(name).catch((error: unknown) => { this.#complain(`has let go of ${name} badly`, error) })
  }

  #change (name: string, change: (peer: Peer) => Peer): void {
    const peer = this.#peers.get(name)
    if (peer !== undefined) this.#peers.set(name, change(peer))
  }

  #judge (): void {
    const status = judgePeers([...this.#peers.values()], this.#self)
    const text = JSON.stringify(status)
    if (text === this.#reported) return
    this.#reported = text
    this.#report(status)
  }

  /** Once for each kind of trouble: rounds come every two seconds. */
  #complain (what: string, error: unknown): void {
    const text = `${what}: ${error instanceof Error ? error.message : String(error)}`
    if (this.#complaints.has(text) || this.#complaints.size >= maxComplaints) return
    this.#complaints.add(text)
    this.#warn(`Domain ${this.#place.id} ${text}`, error)
  }
}

function hasProcessEnded (mark: HostMark | undefined): boolean {
  return mark !== undefined && hasEnded(mark.process)
}
