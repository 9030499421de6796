import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { BusyLimit } from '../api/event.ts'
import type { Task } from '../api/task.ts'
import { Channel } from './channel.ts'
import { compile, type Wanted } from './filter.ts'
import { encode, encodeRetry } from './frame.ts'
import type { Latest } from './latest.ts'
import type { Ring } from './ring.ts'
import { Rounds } from './rounds.ts'
import { sendHead, Stream, type DropReason, type Headers, type Host } from './stream.ts'

const busyRetryMs = 30_000

/** Where a stream that is cut off is written down. */
export interface StreamLog {
  warn (details: object, message: string): void
}

/** Takes a look at all connections; what it returns tells of each. */
export type LookForUnanswered = () => Promise<(socket: Socket) => number>

export interface StreamsOptions {
  ring: Ring
  latest: Latest
  heartbeatMs: number
  drainMs: number
  backlogBytes: number
  closeMs: number
  maxStreams: number
  maxStreamsPerAddress: number
  log: StreamLog | undefined
  lookForUnanswered: LookForUnanswered | undefined
}

export interface Subscription {
  response: ServerResponse
  headers: Headers
  /** Where the subscriber is, for the limit per address. Behind a unix socket there is none. */
  address: string | undefined
  wanted: Wanted
  /** Frames that come before everything else. */
  greeting: readonly Buffer[]
  after: number | undefined
  tasks: () => Iterable<Task>
  isOver?: () => boolean
}

/** Everybody who listens: who is let in, who is cut off, and how all leave. One timer looks after them all. */
export class Streams implements Host {
  readonly ring: Ring
  readonly latest: Latest
  readonly heartbeatMs: number
  readonly drainMs: number
  readonly backlogBytes: number
  readonly #options: StreamsOptions
  readonly #streams = new Set<Stream>()
  readonly #rounds: Rounds
  readonly #perAddress = new Map<string, number>()
  readonly #channels = new Map<string, Channel>()
  readonly #dropped: Record<DropReason, number> = { backlog: 0, stalled: 0 }
  #opened = 0
  #refused = 0
  #sweeper: NodeJS.Timeout | undefined
  #looksAt = 0
  #bye: Buffer | undefined
  #closed: Promise<void> | undefined
  #emptied: (() => void) | undefined

  constructor (options: StreamsOptions) {
    this.#options = options
    this.ring = options.ring
    this.latest = options.latest
    this.#rounds = new Rounds(this.#streams, options.ring)
    this.heartbeatMs = options.heartbeatMs
    this.drainMs = options.drainMs
    this.backlogBytes = options.backlogBytes
  }

  get size (): number { return this.#streams.size }
  get opened (): number { return this.#opened }
  get refused (): number { return this.#refused }
  get dropped (): Readonly<Record<DropReason, number>> { return this.#dropped }

  /** Answers a request with a stream; when there are too many, with a short one that says so. */
  open (subscription: Subscription): void {
    const { response, headers, address, wanted, greeting, after, tasks, isOver } = subscription
    const { socket } = response
    if (socket === null) {
      // the answer to an earlier, pipelined request still goes first
      response.once('socket', () => { this.open(subscription) })
      return
    }
    // `close` has been or will be emitted before anybody could listen to it
    if (socket.destroyed) return
    if (this.#bye !== undefined) {
      answer(response, headers, [this.#bye])
      return
    }
    const reached = this.#limitReached(address)
    if (reached !== undefined) {
      this.refuse(response, headers, { ...reached, retryMs: busyRetryMs })
      return
    }
    const now = performance.now()
    const stream = new Stream(this, { socket, response, address, channel: this.#join(wanted), after, tasks, isOver }, now)
    this.#streams.add(stream)
    this.#opened++
    if (address !== undefined) this.#perAddress.set(address, (this.#perAddress.get(address) ?? 0) + 1)
    socket.once('close', () => { this.#left(stream) })
    socket.setKeepAlive(true, this.heartbeatMs)
    // Events in quick succession then share a packet while the one before is on its way, which takes a quarter off the
    // cost of an event (scripts/bench/events.mjs). The first after a pause still leaves at once.
    socket.setNoDelay(false)
    this.#sweeper ??= setInterval(() => { this.#sweep() }, Math.max(10, Math.min(1000, this.heartbeatMs / 2, this.drainMs / 2))).unref()
    // head, greeting and the first frames in one packet
    socket.cork()
    sendHead(response, headers)
    socket.write(Buffer.concat([encodeRetry(retryMs()), ...greeting]))
    stream.advance(now)
    socket.uncork()
  }

  /** Tells a subscriber to come again later. No HTTP error: EventSource would take it for the end. */
  refuse (response: ServerResponse, headers: Headers, { limit, maximum, retryMs }: { limit: BusyLimit, maximum: number, retryMs: number }): void {
    this.#refused++
    answer(response, headers, [encodeRetry(retryMs), encode('busy', { limit, maximum })])
  }

  /** There is something new for everybody. */
  wakeAll (): void {
    if (this.#streams.size > 0) this.#rounds.wakeAll()
  }

  wake (stream: Stream): void {
    this.#rounds.wake(stream)
  }

  drop (stream: Stream, reason: DropReason): void {
    this.#dropped[reason]++
    this.#options.log?.warn({ address: stream.address, reason }, reason === 'stalled'
      ? `event stream cut off: it took nothing for ${this.drainMs} ms`
      : `event stream cut off: more than ${this.backlogBytes} bytes were waiting for it`)
    stream.destroy()
  }

  /** Says good-bye to everybody. Resolves when all are gone; those who are not by then are cut off. */
  async close (): Promise<void> {
    this.#closed ??= this.#sayBye()
    await this.#closed
  }

  async #sayBye (): Promise<void> {
    this.#bye = encode('bye', { reason: 'stopping' })
    const now = performance.now()
    for (const stream of this.#streams) stream.sayBye(this.#bye, now)
    if (this.#streams.size === 0) return
    await new Promise<void>(resolve => {
      const deadline = setTimeout(() => {
        for (const stream of this.#streams) stream.destroy()
      }, this.#options.closeMs)
      this.#emptied = () => {
        clearTimeout(deadline)
        resolve()
      }
    })
  }

  #limitReached (address: string | undefined): { limit: BusyLimit, maximum: number } | undefined {
    const { maxStreams, maxStreamsPerAddress } = this.#options
    if (this.#streams.size >= maxStreams) return { limit: 'streams', maximum: maxStreams }
    if (address === undefined || (this.#perAddress.get(address) ?? 0) < maxStreamsPerAddress) return undefined
    return { limit: 'streamsPerAddress', maximum: maxStreamsPerAddress }
  }

  #join (wanted: Wanted): Channel {
    const filter = compile(wanted)
    const channel = this.#channels.get(filter.key) ?? new Channel(filter, this.ring, this.latest)
    channel.readers++
    this.#channels.set(filter.key, channel)
    return channel
  }

  #left (stream: Stream): void {
    this.#streams.delete(stream)
    this.#rounds.leave(stream)
    const { address, channel } = stream
    if (--channel.readers === 0) this.#channels.delete(channel.filter.key)
    if (address !== undefined) {
      const others = (this.#perAddress.get(address) ?? 1) - 1
      if (others > 0) this.#perAddress.set(address, others)
      else this.#perAddress.delete(address)
    }
    if (this.#streams.size > 0) return
    this.#rounds.cancel()
    clearInterval(this.#sweeper)
    this.#sweeper = undefined
    this.#emptied?.()
  }

  #sweep (): void {
    const now = performance.now()
    for (const stream of this.#streams) stream.sweep(now)
    if (now < this.#looksAt) return
    this.#looksAt = now + Math.min(this.heartbeatMs, this.drainMs / 2)
    void this.#look()
  }

  async #look (): Promise<void> {
    const timesOf = await this.#options.lookForUnanswered?.()
    if (timesOf === undefined) return
    const now = performance.now()
    for (const stream of this.#streams) stream.heedUnanswered(timesOf, now)
  }
}

/** Spread, so that the subscribers of a restarted agent do not all come back at the same moment. */
export function retryMs (): number {
  return 2000 + Math.random() * 3000
}

/** A short stream: it says something and ends. */
export function answer (response: ServerResponse, headers: Headers, frames: readonly Buffer[]): void {
  sendHead(response, headers)
  response.end(Buffer.concat(frames))
}
