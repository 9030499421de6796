import type { LockProblem, LockStatus } from '../../api/domain.ts'
import type { ProcessMark } from '../../system/process-mark.ts'

// What this agent knows of the other agents that have a domain attached, from their host files alone. Pure: the lock
// watch does what is due and feeds what it found. A host file is locked exclusively by its owner, who writes a heartbeat
// into it, and before each count of `held` makes sure of that lock.

/** What stands in a host file. */
export interface HostMark {
  hostId: string
  /** Of the agent: random for each start. */
  instance: string
  /** The id that the agent has the domain under. */
  domain: string
  process: ProcessMark
  /** Counts heartbeats. */
  beat: number
  /** Counts those before which the owner made sure that it holds the lock of the file. */
  held: number
}

/** The owner of a host file, as seen from here. Times are milliseconds of a clock that only moves forward. */
export interface Peer {
  readonly name: string
  readonly mark: HostMark | undefined
  readonly firstSeenAt: number
  readonly readAt: number
  /** When the heartbeat was last seen to advance, or the watching began. */
  readonly beatAt: number
  /** Its heartbeat has advanced while it was watched. */
  readonly beats: boolean
  /** It had not advanced when it was last read. */
  readonly quiet: boolean
  /** What the last attempt to lock the file came to: `taken` is held from then on. */
  readonly lock: 'unknown' | 'refused' | 'taken'
  readonly triedAt: number
  /** `held` when the lock had been taken. */
  readonly heldAtTake: number | undefined
  /** `held` when the lock was last found to be still ours. */
  readonly heldAtConfirm: number | undefined
  /** It held its lock while we held ours, which cannot be. */
  readonly broken: boolean
}

/** What is to be done next about a peer, after its file was read. */
export type Due = 'try' | 'confirm' | 'retry' | 'remove' | undefined

export const beatMs = 2000
/** How often a file is read while it is not known what to make of it. */
export const watchMs = 500
/** A heartbeat that does not advance for so long has stopped: three beats, and what another host sees late. */
export const silentMs = 8000
/** A file without a heartbeat is removed after so long; one whose owner was found to ignore our lock is feared as long. */
export const deadMs = 60_000
/** How often the files of peers whose locks hold are read. */
const readMs = 30_000
/** How often it is tried again whether their locks hold: somebody may have mounted the file system in another way. */
const reproveMs = 5 * 60_000
/**
 * So many counts of `held` while we have the lock prove that locks do not exclude each other. The first may have been
 * prepared before, another may be what a cache was late with.
 */
const proof = 3

export function newPeer (name: string, at: number): Peer {
  return {
    name,
    mark: undefined,
    firstSeenAt: at,
    readAt: at,
    beatAt: at,
    beats: false,
    quiet: false,
    lock: 'unknown',
    triedAt: at,
    heldAtTake: undefined,
    heldAtConfirm: undefined,
    broken: false
  }
}

/** The file was read; `mark` is undefined when nothing in it can be used. */
export function seen (peer: Peer, at: number, mark: HostMark | undefined): Peer {
  if (mark === undefined) return { ...peer, readAt: at }
  const advanced = peer.mark !== undefined && mark.beat !== peer.mark.beat
  // after a pause of our own, as of a host that stood still, silence is counted anew
  const paused = at - peer.readAt > silentMs
  const heldAtTake = peer.lock === 'taken' ? peer.heldAtTake ?? mark.held : undefined
  return {
    ...peer,
    mark,
    readAt: at,
    beatAt: advanced || paused || peer.mark === undefined ? at : peer.beatAt,
    beats: peer.beats || advanced,
    quiet: peer.mark !== undefined && !advanced,
    heldAtTake,
    heldAtConfirm: peer.lock === 'taken' ? peer.heldAtConfirm ?? heldAtTake : undefined
  }
}

/** Its lock was tried, or made sure of. */
export function tried (peer: Peer, at: number, taken: boolean): Peer {
  if (!taken) return { ...peer, lock: 'refused', triedAt: at, heldAtTake: undefined, heldAtConfirm: undefined, broken: false }
  if (peer.lock !== 'taken') return { ...peer, lock: 'taken', triedAt: at, heldAtTake: undefined, heldAtConfirm: undefined }
  const { mark, heldAtTake } = peer
  const isProven = mark !== undefined && heldAtTake !== undefined && mark.held - heldAtTake >= proof
  return { ...peer, triedAt: at, heldAtConfirm: mark?.held, broken: peer.broken || isProven }
}

/** Whether the file is to be read now. */
export function isReadDue (peer: Peer, self: Self, at: number): boolean {
  const everyMs = isUnclear(peer) ? watchMs : needsWatching(peer, self) ? beatMs : readMs
  // rounds are not exact
  return peer.mark === undefined || at - peer.readAt >= everyMs - watchMs / 2
}

/** What is to be done about a peer whose file has just been read. `ended`: its process has certainly ended. */
export function due (peer: Peer, at: number, ended: boolean): Due {
  const silentFor = silenceOf(peer)
  if (peer.lock === 'taken') {
    if (ended || silentFor >= deadMs) return 'remove'
    if (peer.broken) return at - peer.triedAt >= readMs ? 'retry' : undefined
    return peer.mark !== undefined && peer.mark.held !== (peer.heldAtConfirm ?? peer.mark.held) ? 'confirm' : undefined
  }
  // a file without a word in it is just being made; after a while it is what a crash has left
  if (peer.mark === undefined) return at - peer.triedAt >= deadMs ? 'try' : undefined
  if (peer.lock === 'unknown') return 'try'
  return at - peer.triedAt >= (ended || silentFor >= silentMs ? silentMs : reproveMs) ? 'try' : undefined
}

/** For how long its heartbeat has not advanced, as far as its file was read. */
function silenceOf ({ mark, readAt, beatAt, firstSeenAt }: Peer): number {
  return readAt - (mark === undefined ? firstSeenAt : beatAt)
}

/** Whether it is still open what to make of a peer: there is a heartbeat, or may be one, and its lock was not refused. */
export function isUnclear (peer: Peer): boolean {
  return peer.mark !== undefined && !peer.broken && peer.lock !== 'refused' && silenceOf(peer) < silentMs
}

function needsWatching (peer: Peer, self: Self): boolean {
  const { mark, lock, quiet } = peer
  return lock === 'taken' || quiet || (mark !== undefined && (mark.domain !== self.domain || isNamesake(mark, self)))
}

function isAlive (peer: Peer): boolean {
  return peer.beats && silenceOf(peer) < silentMs
}

/** Who this agent is in its own host file. */
export type Self = Pick<HostMark, 'hostId' | 'instance' | 'domain'>

function isNamesake ({ hostId, instance }: HostMark, self: Self): boolean {
  return hostId === self.hostId && instance !== self.instance
}

/** What all of this means for the domain, when every file that is there was read at least once. */
export function judgePeers (peers: readonly Peer[], self: Self): LockStatus {
  const problems = peers.flatMap(peer => problemsOf(peer, self))
  const others = peers.flatMap(peer => isAlive(peer) || peer.lock === 'refused' ? peer.mark?.instance ?? [] : [])
  const agents = new Set(others.filter(instance => instance !== self.instance)).size
  return { state: stateOf(peers, problems), agents, ...(problems.length > 0 && { problems }) }
}

function stateOf (peers: readonly Peer[], problems: readonly LockProblem[]): LockStatus['state'] {
  if (problems.some(({ code }) => code === 'locks-broken')) return 'broken'
  if (problems.some(({ code }) => code === 'domain-id-conflict')) return 'conflict'
  if (peers.some(isUnclear)) return 'checking'
  return peers.some(({ mark, lock }) => mark !== undefined && lock === 'refused') ? 'proven' : 'alone'
}

function problemsOf (peer: Peer, self: Self): LockProblem[] {
  const { mark, broken } = peer
  if (mark === undefined) return []
  const isOtherDomain = isAlive(peer) && mark.domain !== self.domain
  const isDuplicate = isAlive(peer) && mark.domain === self.domain && isNamesake(mark, self)
  return [
    ...broken ? [locksBroken(mark, self)] : [],
    ...isOtherDomain ? [idConflict(mark, self)] : [],
    ...isDuplicate ? [duplicateHost(mark, self)] : []
  ]
}

function ownerOf ({ hostId, instance }: HostMark, self: Self): string {
  return instance === self.instance ? 'this agent itself' : `the agent on host ${hostId} (instance ${instance})`
}

function locksBroken (mark: HostMark, self: Self): LockProblem {
  return {
    code: 'locks-broken',
    detail: `Locks do not work in domain ${self.domain}: ${ownerOf(mark, self)} holds a lock there, and this host ` +
      'could take it, too. Both could write the same image, so no command is accepted. Mount the file system in the ' +
      'same way on every host, with locks that all of them see: without "nolock" or "local_lock", not through FUSE ' +
      'mounts of one directory (bindfs), and not at the local path of an NFS server beside its clients.'
  }
}

function idConflict (mark: HostMark, self: Self): LockProblem {
  return {
    code: 'domain-id-conflict',
    detail: `The directory of domain ${self.domain} is attached as domain ${mark.domain}, too, by ` +
      `${ownerOf(mark, self)}. Give it one id, and one layout, in the configuration of every agent.`
  }
}

function duplicateHost (mark: HostMark, self: Self): LockProblem {
  return {
    code: 'host-id-duplicate',
    detail: `Another agent (instance ${mark.instance}) works on domain ${self.domain} as host ${self.hostId}, too. ` +
      'Copy records do not tell the two apart. Give each agent a "hostId" of its own in its configuration.'
  }
}
