import { escapeUnprintable, escapeUnprintableDeep } from './unprintable.ts'

/** The one catalogue of everything that can go wrong: code -> HTTP status and title. */
export const catalogue = {
  'bad-request': { status: 400, title: 'The request is malformed' },
  'precondition-malformed': { status: 400, title: 'A precondition header is malformed' },
  'format-unknown': { status: 400, title: 'The image format is not known' },
  'format-conflict': { status: 400, title: 'The format contradicts the name or the metadata of the image' },
  'same-image': { status: 400, title: 'Source and target are the same image' },
  'not-supported': { status: 400, title: 'This is not supported' },
  unauthenticated: { status: 401, title: 'The agent wants to know who asks' },
  'credentials-invalid': { status: 401, title: 'The token or certificate is not accepted' },
  'certificate-not-allowed': { status: 403, title: 'The name in the certificate is not allowed' },
  'scope-insufficient': { status: 403, title: 'The caller may not do this' },
  'host-not-allowed': { status: 403, title: 'The Host header is not allowed' },
  'origin-not-allowed': { status: 403, title: 'The Origin header is not allowed' },
  'not-found': { status: 404, title: 'There is nothing at this address' },
  'task-not-found': { status: 404, title: 'No task has this id' },
  'domain-not-found': { status: 404, title: 'No such storage domain' },
  'image-not-found': { status: 404, title: 'No such image' },
  'copy-not-found': { status: 404, title: 'There is no interrupted copy of this image' },
  'volume-not-found': { status: 404, title: 'No such Gluster volume' },
  'operation-not-found': { status: 404, title: 'No such Gluster operation' },
  'method-not-allowed': { status: 405, title: 'This address does not take this method' },
  'reload-failed': { status: 422, title: 'The configuration cannot be put in force as it is' },
  'request-timeout': { status: 408, title: 'The request took too long to arrive' },
  'task-id-conflict': { status: 409, title: 'The id is taken by a task with another command' },
  'task-not-cancelable': { status: 409, title: 'The task cannot be canceled' },
  'task-not-tunable': { status: 409, title: 'The task has nothing that could be changed' },
  'task-finished': { status: 409, title: 'The task has already finished' },
  'resource-busy': { status: 409, title: 'The image or volume is in use' },
  'generation-mismatch': { status: 409, title: 'The volume is of another generation' },
  'has-children': { status: 409, title: 'Other images or volumes are based on this one' },
  'volume-illegal': { status: 409, title: 'The volume is not to be used' },
  'target-exists': { status: 409, title: 'The target image exists' },
  'image-exists': { status: 409, title: 'The image exists' },
  'source-changed': { status: 409, title: 'The source has changed since the copy began' },
  'header-changed': { status: 409, title: 'The header of an image was changed during the copy' },
  'target-changed': { status: 409, title: 'Another program has changed the unfinished copy, or its record' },
  'source-in-use': { status: 409, title: 'The source is open for writing by another program' },
  'image-in-use': { status: 409, title: 'The image is open in another program' },
  'would-lose-data': { status: 409, title: 'The copy would not have all that its source has' },
  'image-interrupted': { status: 409, title: 'The image is an unfinished copy' },
  'already-complete': { status: 409, title: 'The image is complete: there is nothing to mend' },
  'volume-not-started': { status: 409, title: 'The Gluster volume is not started' },
  'not-distributed': { status: 409, title: 'The Gluster volume is not distributed' },
  'remove-brick-uncommitted': { status: 409, title: 'A brick removal on this volume is not committed yet' },
  'remove-brick-unfinished': { status: 409, title: 'The brick removal is still moving data' },
  'bricks-not-empty': { status: 409, title: 'Files are left on the bricks' },
  'bricks-unchecked': { status: 409, title: 'Whether the data is safe could not be checked' },
  'heals-pending': { status: 409, title: 'Files of the volume wait to be healed' },
  'host-away': { status: 409, title: 'A host of the cluster is away' },
  'operation-not-running': { status: 409, title: 'No such operation is running on the volume' },
  'operation-ended': { status: 409, title: 'Nothing runs in the operation that is there' },
  'operation-conflict': { status: 409, title: 'Another operation is running on the volume' },
  'gluster-refused': { status: 409, title: 'Gluster refused the command' },
  'brick-not-found': { status: 404, title: 'No such brick in the Gluster volume' },
  'cursor-gone': { status: 410, title: 'The cursor belongs to another instance of the agent' },
  'record-newer': { status: 409, title: 'The copy record was written by a newer agent' },
  'precondition-failed': { status: 412, title: 'A precondition does not hold' },
  'instance-changed': { status: 412, title: 'The agent has been restarted' },
  'body-too-large': { status: 413, title: 'The request body is too large' },
  'unsupported-media-type': { status: 415, title: 'The request body is not JSON' },
  'image-invalid': { status: 422, title: 'The image is damaged, hostile or not of the stated format' },
  'backing-format-conflict': { status: 422, title: 'The formats that are declared of a backing file differ' },
  'metadata-invalid': { status: 422, title: 'The metadata of a volume or domain cannot be used' },
  'file-too-large': { status: 422, title: 'The storage cannot have a file of this size' },
  'record-invalid': { status: 422, title: 'The copy record cannot be read' },
  'too-many-requests': { status: 429, title: 'The caller sends more requests than it may' },
  'headers-too-large': { status: 431, title: 'The request headers are too large' },
  internal: { status: 500, title: 'The agent failed' },
  'copy-failed': { status: 500, title: 'The copy failed' },
  'verification-failed': { status: 500, title: 'The copy is not identical to its source' },
  'lease-lost': { status: 500, title: 'The lease was lost: another host has it, or may take it' },
  'storage-failed': { status: 500, title: 'The storage answered with an error' },
  'storage-process-died': { status: 500, title: 'The process that worked on the storage died' },
  'gluster-unexpected': { status: 502, title: 'Gluster gave an answer that cannot be understood' },
  'agent-busy': { status: 503, title: 'The agent has as many active tasks as it may have' },
  'agent-overloaded': { status: 503, title: 'The agent has more to do than it can' },
  'agent-stopping': { status: 503, title: 'The agent is stopping' },
  'domain-unavailable': { status: 503, title: 'The storage domain is not available' },
  'locks-broken': { status: 503, title: 'Locks do not work across the hosts that share the domain' },
  'domain-id-conflict': { status: 503, title: 'The directory is attached under two domain ids' },
  'gluster-unavailable': { status: 503, title: 'Gluster is not available on this host' },
  'out-of-memory': { status: 503, title: 'The host does not give the work the memory that it needs' },
  'gluster-busy': { status: 503, title: 'Gluster is busy with another command' },
  'accept-overdue': { status: 504, title: 'The host is too busy to accept the command in time' },
  'storage-unresponsive': { status: 504, title: 'The storage does not answer' },
  'gluster-unresponsive': { status: 504, title: 'Gluster does not answer' },
  'no-space': { status: 507, title: 'There is not enough space on the storage' }
} as const satisfies Record<string, { status: number, title: string }>

export type ErrorCode = keyof typeof catalogue

export interface ErrorContext {
  /** Members added to the problem that the caller sees. */
  members?: Readonly<Record<string, unknown>>
  /** The command may have changed something although it did not complete: the task has `failed`, it was not `rejected`. */
  changed?: boolean
  cause?: unknown
}

/**
 * An error the caller is told about: what happened, to which object, and what to do next. Its text may quote images,
 * programs and other hosts: what a terminal would obey is escaped.
 */
export class AppError extends Error {
  readonly code: ErrorCode
  readonly members: Readonly<Record<string, unknown>>
  readonly changed: boolean

  constructor (code: ErrorCode, detail: string, { members = {}, changed = false, cause }: ErrorContext = {}) {
    super(escapeUnprintable(detail), { cause })
    this.name = 'AppError'
    this.code = code
    this.members = escapeMembers(members)
    this.changed = changed
  }
}

function escapeMembers (members: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(members).map(([name, value]) => [name, escapeUnprintableDeep(value)]))
}

/** Why work was aborted that a caller has canceled. Any other reason is not a caller's wish. */
export class Canceled extends Error {
  constructor (id: string) {
    super(`Task ${id} was canceled`)
    this.name = 'Canceled'
  }
}

/** Whether a string that crossed a process border is one of our codes. */
export function isErrorCode (code: string): code is ErrorCode {
  return Object.hasOwn(catalogue, code)
}

/** The error as the caller sees it (RFC 9457). What was not foreseen gives no detail away. */
export function problemOf (error: unknown) {
  const known = error instanceof AppError ? error : new AppError('internal', 'This should not have happened. The log of the agent tells more.', { cause: error })
  const { status, title } = catalogue[known.code]
  const own = { type: `urn:vdsm-tasks:problem:${known.code}`, title, status, code: known.code, detail: known.message }
  // members add to it, and change nothing
  return { ...own, ...known.members, ...own }
}
