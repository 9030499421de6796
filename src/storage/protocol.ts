import type { Allocation, Format } from '../api/format.ts'
import type { LeaseStatus, LockProblem, LockStatus } from '../api/domain.ts'
import type { Copy, BrokenImage, ImageEntry, ImageStatus } from '../api/image.ts'
import type { CopyResult, CreateResult, DeleteResult, Dropped, ForgetResult, VerifyResult } from '../api/kinds.ts'
import type { Progress } from '../api/task.ts'
import type { DomainPlace } from './area.ts'
import type { Outcome } from './outcome.ts'
import type { CopyRecord, Named, OfferedFor, SourceFile } from './record.ts'

/** Who writes into copy records. */
export interface Host {
  id: string
  url?: string
}

/** An image, or a volume of one, and the format to read it in. Of a volume, its metadata tell that. */
export interface ImageAddress {
  domain: string
  image: string
  volume?: string | undefined
  format?: Format | undefined
}

export interface CopyRequest {
  what: 'copy'
  source: ImageAddress
  target: { domain: string, image: string, volume?: string | undefined, generation?: number | undefined, format?: Format | undefined, allocation: Allocation, clusterSize?: number | undefined }
  /** Keep every volume of the chain as it is, or make one of them. */
  chain: 'flat' | 'keep'
  verify: boolean
  onExisting: 'refuse' | 'replace'
  /** Begin although it looks as if the target's domain had too little space. */
  ignoreSpace: boolean
  /** Refuse what would have less than its source. */
  refuseLoss?: boolean
}

export interface MendRequest {
  what: 'mend'
  domain: string
  image: string
  volume?: string | undefined
}

export interface CopySettings {
  /** Windows of a raw target that are copied at the same time. */
  parallelWindows: number
  /** Seconds of work that a window is meant to be. */
  windowSeconds: number
  /** How much the copy gives way to other programs, 0 to 19. */
  nice: number
  ioPriority: 'normal' | 'low' | 'idle'
  /** Write past the page cache where that is possible. */
  directIo: boolean
  /** Share the source's data where the file system can, instead of copying it. */
  clone: boolean
  /** Bytes of a domain that copies leave free, so that records can always be written; less on small file systems. */
  reserveBytes: number
}

/** What a copy worker is told to do. */
export interface CopyJob {
  request: CopyRequest | MendRequest
  bandwidth: number | null
  /** How fast the last copy to this domain was, if there was one. */
  expectedBytesPerSecond?: number
  /** The domains this agent knows: a mended copy names its source itself. */
  places: readonly DomainPlace[]
  host: Host
  taskId: string
  settings: CopySettings
}

/** Space that a copy is going to take up. */
export interface SpaceClaim {
  domain: string
  /** Names the file system on this host. */
  device: string
  /** Of the copy record. */
  key: string
  bytesNeeded: number
  /** What is free on the file system, less what is kept back. */
  bytesFree: number
  /** What copies of other hosts are still going to take up. */
  bytesElsewhere?: number
  /** Take it, however little there is. */
  force: boolean
}

/** The answer to a claim. */
export interface SpaceGrant {
  granted: boolean
  /** What the other copies are still going to take up on the file system. */
  bytesReserved: number
}

/** What a copy would do, as a look at the storage tells. */
export interface CopyPreview {
  outcome: 'copy' | 'replace' | 'continue' | 'finish' | 'already-done'
  bytesTotal: number
  bytesDone?: number
  /** About as much space as the copy takes. */
  bytesNeeded?: number
  bytesFree?: number
  /** What other copies are still going to take up, and what is kept back for records. */
  bytesReserved?: number
  /** Data that is read and written. */
  bytesToMove?: number
  /** What the source has that the copy does not. */
  dropped?: Dropped
  /** What may be wrong with the source. */
  warnings?: string[]
}

/** Two images to compare. */
export interface VerifyJob {
  image: ImageAddress
  against: ImageAddress
  places: readonly DomainPlace[]
}

/** How a copy worker ended without an error. */
export type CopyEnd = { canceled: true } | { result: CopyResult }

export type VerifyEnd = { canceled: true } | { result: VerifyResult }

/** Why no command is accepted in a domain, and running copies are ended. */
export type LockRefusal = LockProblem & { code: 'locks-broken' | 'domain-id-conflict' }

/** Who stops a copy: a caller, or the deadline of its accept step. */
export type StopReason = 'canceled' | 'deadline'

/** What the agent may ask a copy worker. One worker, one copy. */
export interface CopyWorkerFunctions {
  copy (job: CopyJob): Promise<Outcome<CopyEnd>>
  preview (job: CopyJob): Promise<Outcome<CopyPreview>>
  verify (job: VerifyJob): Promise<Outcome<VerifyEnd>>
  stop (why: StopReason): void
  /** Ends the copy: its leases can no longer be relied on. Nothing more is written, also not into its record. */
  fence (refusal: LockRefusal): void
  setBandwidth (bandwidth: number | null): void
}

/** What a running copy measures of itself. */
export interface CopyMeasure {
  /** A window was copied, in so many seconds. */
  windowSeconds?: number
  /** So many bytes became durable, and a checkpoint says so. */
  movedBytes?: number
  /** So many bytes had been begun before an interruption, and are copied again. */
  redoneBytes?: number
}

/** What a copy worker tells the agent. */
export interface CopyAgentFunctions {
  /** It listens: nothing is sent to it before. */
  ready (): void
  /** One of many volumes is looked at, or made. */
  accepting (): void
  accepted (): void
  progress (progress: Progress): void
  measured (measure: CopyMeasure): void
  claimSpace (claim: SpaceClaim): Promise<SpaceGrant>
  /** The copy of this record is still going to take up so many bytes. */
  spaceSettled (key: string, bytes: number): void
}

export interface DomainDescription {
  bytesTotal: number
  bytesFree: number
  /** The file system is this host's alone. */
  local: boolean
  /** What about its mount makes leases less than they should be. */
  warnings?: string[]
  /** Of a domain with those of sanlock. */
  leases?: LeaseStatus
}

export interface CreateRequest {
  image: string
  volume?: string | undefined
  description?: string | undefined
  diskType?: string | undefined
  format: Format
  virtualSize: number
  allocation: Allocation
  clusterSize?: number | undefined
  /** Bytes that copies are going to take up in the domain, and those that are kept back for records. */
  bytesReserved?: number
  reserveBytes?: number
  host: Host
  taskId: string
}

/** What it takes to tell whether there is space for an image. */
export type CreateShape = Pick<CreateRequest, 'format' | 'allocation' | 'virtualSize' | 'clusterSize' | 'bytesReserved' | 'reserveBytes'>

export type ForgetRequest = Named & OfferedFor

export interface DeleteRequest extends OfferedFor {
  image: string
  volume?: string | undefined
  host: Host
  taskId: string
}

/** How a domain process sees to it that this host is in the lockspace of its domain. */
export interface LockspaceOptions {
  /** As whom to join it. Without, somebody else must have done it: vdsm. */
  hostId?: number | undefined
}

/** Which agent a domain process works for. */
export interface AgentMark {
  hostId: string
  /** Random for each start of the agent. */
  instance: string
}

export interface PrepareOptions {
  place: DomainPlace
  create: boolean
  sample: boolean
  lockspace?: LockspaceOptions
  /** As whom it shows itself to other agents and watches their locks; absent where another process does. */
  agent?: AgentMark
}

export interface SweepOptions {
  /** How long the records of complete copies are kept. */
  keepDoneDays: number
}

/** What was removed: parts by name, records and lease files in number. */
export interface Swept {
  parts: string[]
  records: number
  leases: number
}

/** A part of a list. */
export interface Page {
  /** The key that the part before has ended with. */
  after: string
  limit: number
}

export const wholeList: Page = { after: '', limit: Infinity }

/** Which copy records are asked for. */
export interface CopiesQuery extends Page {
  taskId?: string | undefined
  state?: Copy['state'] | undefined
}

/** Whose copies are left out: those of this host, and of these records. */
export interface CopiesNeedQuery {
  hostId: string
  keys: readonly string[]
}

/** What a new image takes up; all in bytes. */
export interface CreatePreview {
  bytesFree: number
  bytesNeeded: number
  bytesReserved: number
}

export type NeededSource = NonNullable<CopyRecord['source']>

/** What has become of a source since a copy of it began, and what of it: a file that is gone, or what has changed. */
export interface SourceState {
  state: 'same' | 'changed' | 'gone'
  what?: string
}

/** What the agent may ask a domain process. */
export interface DomainFunctions {
  /** Comes first: says which domain this process is for, and makes what is missing in it. */
  prepare (options: PrepareOptions): Promise<Outcome<{ sampleMade: boolean }>>
  describe (): Promise<Outcome<DomainDescription>>
  images (after: string, limit: number): Promise<Outcome<ImageEntry[]>>
  image (image: string, format: Format | undefined): Promise<Outcome<ImageStatus>>
  copies (query: CopiesQuery): Promise<Outcome<Copy[]>>
  fixes (page: Page): Promise<Outcome<BrokenImage[]>>
  /** For each unfinished copy in this domain, the source that it still has to read; null if there is none. */
  neededSources (copies: readonly Named[]): Promise<Outcome<Array<NeededSource | null>>>
  /** For each source in this domain, given by its files, what has become of it. */
  sourceStates (sources: ReadonlyArray<readonly SourceFile[]>): Promise<Outcome<SourceState[]>>
  /** Bytes that running copies of other hosts are still going to take up. */
  copiesNeed (query: CopiesNeedQuery): Promise<Outcome<number>>
  /** Looks whether there is space for a new image. Throws the refusal. */
  creatable (request: CreateShape): Promise<Outcome<CreatePreview>>
  sweep (options: SweepOptions): Promise<Outcome<Swept>>
  create (request: CreateRequest): Promise<Outcome<CreateResult>>
  forget (request: ForgetRequest): Promise<Outcome<ForgetResult>>
  /** `accept` is called on the agent when the intent is durable. */
  delete (request: DeleteRequest & { call: string }): Promise<Outcome<DeleteResult>>
}

/** What a domain process tells the agent. */
export interface DomainAgentFunctions {
  /** It listens: nothing is sent to it before. */
  ready (): void
  /** The step of the call of this name is durable. */
  accepted (call: string): void
  /** A look at many files gets on: the storage answers, though the look takes long. */
  progressed (): void
  /** Whether locks work is known, or known anew. */
  judged (status: LockStatus): void
}
