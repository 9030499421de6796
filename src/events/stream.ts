import type { ServerResponse } from 'node:http'
import { TLSSocket } from 'node:tls'
import type { Socket } from 'node:net'
import type { ResetReason } from '../api/event.ts'
import type { Task } from '../api/task.ts'
import { batchBytes, type Channel, type Position } from './channel.ts'
import { cursorOf } from './cursor.ts'
import { encode, encodeHeartbeat } from './frame.ts'
import type { Latest } from './latest.ts'
import type { Ring } from './ring.ts'
import { Snapshot } from './snapshot.ts'

const nothing = Buffer.alloc(0)

/** Response headers that were set before a stream took over. */
export type Headers = Readonly<Record<string, string | number | string[] | undefined>>

/** Why a stream was cut off: it had too much waiting for it, or took nothing for too long. */
export type DropReason = 'backlog' | 'stalled'

/** What a stream needs of those who serve them all. */
export interface Host {
  readonly ring: Ring
  readonly latest: Latest
  readonly heartbeatMs: number
  readonly drainMs: number
  readonly backlogBytes: number
  /** Asks for a call of `advance` in a turn to come. */
  wake (stream: Stream): void
  drop (stream: Stream, reason: DropReason): void
}

export interface StreamOptions {
  socket: Socket
  response: ServerResponse
  address: string | undefined
  channel: Channel
  /** Go on behind this number; absent: begin with a snapshot. */
  after?: number | undefined
  /** The tasks of a snapshot, which may be needed again. */
  tasks: () => Iterable<Task>
  /** Whether nothing more will come that concerns this stream: it ends when it has told all. */
  isOver?: (() => boolean) | undefined
}

/** One subscriber. It holds one write in flight and two numbers that say how far it has read: that is its bound. */
export class Stream {
  readonly address: string | undefined
  readonly channel: Channel
  readonly #host: Host
  readonly #socket: Socket
  readonly #response: ServerResponse
  readonly #tasks: () => Iterable<Task>
  readonly #isOver: StreamOptions['isOver']
  readonly #written: (error?: Error | null) => void
  #position: Position
  #snapshot: Snapshot | undefined
  #state: 'opening' | 'live' | 'ended' = 'opening'
  #writing = false
  #writingSince = 0
  #sentAgain = 0
  #unansweredSince = 0
  #heartbeatAt: number
  #heartbeatDue = false
  #bye: Buffer | undefined
  #saidBye = false

  constructor (host: Host, { socket, response, address, channel, after, tasks, isOver }: StreamOptions, now: number) {
    this.#host = host
    this.#socket = socket
    this.#response = response
    this.address = address
    this.channel = channel
    this.#tasks = tasks
    this.#isOver = isOver
    this.#unansweredSince = now
    this.#heartbeatAt = now + host.heartbeatMs
    // a returning subscriber gets the newest numbers too: it cannot know which it has missed
    this.#position = { seq: after ?? host.ring.newest, tick: after === undefined ? host.latest.tick : 0 }
    if (after === undefined) this.#begin()
    this.#written = error => {
      this.#writing = false
      if (error == null && this.#behind) host.wake(this)
    }
  }

  /** Sends what there is to send, in at most one write; nothing while one is in flight. */
  advance (now: number): void {
    // a peer that has closed its side makes Node end ours; `close` will follow
    if (this.#state === 'ended' || !this.#socket.writable) return
    if (this.#writing) {
      if (this.#state === 'live') this.#checkBacklog()
      return
    }
    // more in one turn than is remembered: this is nobody's fault, and the stream begins anew
    if (this.#state === 'live' && !this.#host.ring.reaches(this.#position.seq)) this.#state = 'opening'
    const bytes = this.#state === 'live' ? this.#next() : join(this.#open())
    if (bytes !== undefined) {
      // Without a callback: the kernel mostly takes all at once, and for a callback Node would make a tick, a sixth of
      // what an event costs. When something is left, the end of a write of nothing behind it says that it has gone.
      this.#socket.write(bytes)
      if (this.#socket.writableLength > 0) {
        this.#writing = true
        this.#writingSince = now
        this.#socket.write(nothing, this.#written)
      }
    }
    if (this.#saidBye || this.#hasEnded()) this.#end(now)
    else if (!this.#writing && this.#behind) this.#host.wake(this)
  }

  /** Says good-bye behind what is queued, and ends. */
  sayBye (frame: Buffer, now: number): void {
    this.#bye = frame
    this.advance(now)
  }

  /** Looks after deadlines and heartbeats, for which there is no timer of its own. */
  sweep (now: number): void {
    if (this.#socket.destroyed) return
    if ((this.#writing || this.#state === 'ended') && now - this.#writingSince > this.#host.drainMs) {
      this.#host.drop(this, 'stalled')
    } else if (now >= this.#heartbeatAt) {
      this.#heartbeatAt = now + this.#host.heartbeatMs
      this.#heartbeatDue = true
      this.#host.wake(this)
    }
  }

  /**
   * Looks after a peer that has vanished without a word. The kernel takes what is written for it all the same; that it
   * had to send it again at every look, more often each time, shows that nobody answers.
   */
  heedUnanswered (timesOf: (socket: Socket) => number, now: number): void {
    const times = timesOf(this.#socket)
    if (times === 0 || times < this.#sentAgain) this.#unansweredSince = now
    this.#sentAgain = times
    if (times > 0 && now - this.#unansweredSince > this.#host.drainMs && !this.#socket.destroyed) this.#host.drop(this, 'stalled')
  }

  /** Cuts the connection off. A reset frees what the kernel still holds for a peer that does not read; a close keeps it. */
  destroy (): void {
    if (this.#socket instanceof TLSSocket || this.#socket.remoteFamily === undefined) this.#socket.destroy()
    else this.#socket.resetAndDestroy()
  }

  get #behind (): boolean {
    const { ring, latest } = this.#host
    return this.#state === 'opening' || this.#position.seq !== ring.newest || this.#position.tick !== latest.tick || this.#heartbeatDue || this.#bye !== undefined
  }

  #begin (): void {
    this.#snapshot = new Snapshot(this.#host.ring, this.channel.filter, this.#tasks())
    this.#position = { seq: this.#host.ring.newest, tick: this.#host.latest.tick }
  }

  /** The next part of what comes before `synced`: the snapshot, then the ring. With a snapshot nothing carries an id: a client cut off in the middle must not come back with one. */
  #open (): Buffer[] {
    const { ring } = this.#host
    if (this.#bye !== undefined) {
      this.#saidBye = true
      return [this.#bye]
    }
    const frames: Buffer[] = []
    if (!ring.reaches(this.#position.seq)) {
      this.#begin()
      frames.push(encodeReset('overtaken'))
    }
    const snapshot = this.#snapshot
    if (snapshot?.done === false) frames.push(...snapshot.read())
    if (snapshot?.done === false) return frames
    const reading = ring.read(this.#position.seq, batchBytes, entry => {
      if (!this.channel.filter.passes(entry)) return undefined
      if (snapshot === undefined) return entry.frame
      return snapshot.shows(entry) ? undefined : entry.bare
    })
    frames.push(...reading.frames)
    this.#position = { ...this.#position, seq: reading.seq }
    if (reading.seq === ring.newest) {
      frames.push(encode('synced', { instance: ring.instance }, cursorOf(ring.instance, reading.seq)))
      this.#snapshot = undefined
      this.#state = 'live'
    }
    return frames
  }

  #next (): Buffer | undefined {
    const { ring } = this.#host
    const batch = this.channel.read(this.#position)
    this.#position = batch.to
    if (batch.to.seq !== ring.newest || (this.#bye === undefined && !this.#heartbeatDue)) return batch.bytes
    if (this.#bye !== undefined) {
      this.#saidBye = true
      return join([batch.bytes, this.#bye])
    }
    this.#heartbeatDue = false
    return join([batch.bytes, encodeHeartbeat(cursorOf(ring.instance, batch.to.seq))])
  }

  #checkBacklog (): void {
    const { ring, backlogBytes } = this.#host
    if (ring.reaches(this.#position.seq) && this.channel.backlog(this.#position.seq, backlogBytes) > backlogBytes) this.#host.drop(this, 'backlog')
  }

  #hasEnded (): boolean {
    return this.#isOver !== undefined && this.#state === 'live' && this.#position.seq === this.#host.ring.newest && this.#isOver()
  }

  #end (now: number): void {
    this.#state = 'ended'
    this.#writingSince = now
    this.#response.end()
  }
}

/** The frame that says that something may have been missed. */
export function encodeReset (reason: ResetReason): Buffer {
  return encode('reset', { reason })
}

/**
 * Sends the headers at once. The body has no length and no chunks but ends with the connection: so a frame is the same
 * bytes for everybody and goes to the socket without passing through the response again.
 */
export function sendHead (response: ServerResponse, headers: Headers): void {
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined) response.setHeader(name, value)
  }
  response.removeHeader('Transfer-Encoding')
  response.writeHead(200, {
    'Content-Type': 'text/event-stream',
    'Cache-Control': 'no-store, no-transform',
    // nginx would hold events back until its buffer is full
    'X-Accel-Buffering': 'no',
    Connection: 'close'
  })
  response.flushHeaders()
}

function join (parts: readonly (Buffer | undefined)[]): Buffer | undefined {
  const present = parts.filter(part => part !== undefined)
  return present.length > 1 ? Buffer.concat(present) : present[0]
}
