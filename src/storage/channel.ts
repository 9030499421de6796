import { createBirpc, type BirpcReturn } from 'birpc'

/** A process at the other end of a fork's channel: a child, or the parent as `process` shows it. */
interface Peer {
  send? (message: unknown, callback: (error: Error | null) => void): unknown
  on (event: 'message', listener: (message: unknown) => void): unknown
  off (event: 'message', listener: (message: unknown) => void): unknown
}

/**
 * Whether a message is one of birpc's, and calls nothing but what is there to be called. A process that read hostile files
 * may send anything: birpc would fail with what is no object, outside of any call, and call `toString` and the like.
 */
function isForUs (message: unknown, local: object): boolean {
  if (typeof message !== 'object' || message === null) return false
  const { t: type, m: method, a: parameters } = message as Record<string, unknown>
  return type === 's' || (type === 'q' && typeof method === 'string' && Object.hasOwn(local, method) && Array.isArray(parameters))
}

/**
 * Typed calls over a fork's channel. There is no time-out here: a call may rightly take as long as its storage does;
 * whoever calls sets a deadline. `$close()` it when the peer is gone, or pending calls wait for ever.
 */
export function openChannel<Remote extends object, Local extends object> (peer: Peer, local: Local): BirpcReturn<Remote, Local> {
  let receive: (message: unknown) => void = () => {}
  return createBirpc<Remote, Local>(local, {
    // without the callback, a send to a peer that is just dying is an uncaught ERR_IPC_CHANNEL_CLOSED
    post: message => { peer.send?.(message, () => { /* the exit event tells it, too, and ends the calls */ }) },
    on: listener => {
      receive = message => { if (isForUs(message, local)) listener(message) }
      peer.on('message', receive)
    },
    off: () => { peer.off('message', receive) },
    timeout: -1,
    onGeneralError: () => true
  })
}
