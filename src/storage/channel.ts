import { createBirpc, type BirpcReturn } from 'birpc'

/** A process at the other end of a fork's channel: a child, or the parent as `process` shows it. */
interface Peer {
  send? (message: unknown, callback: (error: Error | null) => void): unknown
  on (event: 'message', listener: (message: unknown) => void): unknown
  off (event: 'message', listener: (message: unknown) => void): unknown
}

/**
 * Typed calls over a fork's channel. There is no time-out here: a call may rightly take as long as its storage does;
 * whoever calls sets a deadline. `$close()` it when the peer is gone, or pending calls wait for ever.
 */
export function openChannel<Remote extends object, Local extends object> (peer: Peer, local: Local): BirpcReturn<Remote, Local> {
  return createBirpc<Remote, Local>(local, {
    // without the callback, a send to a peer that is just dying is an uncaught ERR_IPC_CHANNEL_CLOSED
    post: message => { peer.send?.(message, () => { /* the exit event tells it, too, and ends the calls */ }) },
    on: listener => { peer.on('message', listener) },
    off: listener => { peer.off('message', listener) },
    timeout: -1,
    onGeneralError: () => true
  })
}
