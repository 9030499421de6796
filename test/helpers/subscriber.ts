import { get, type ClientRequest, type IncomingMessage } from 'node:http'

/** A frame as it was read. `data` is parsed; a frame with nothing but an id has neither event nor data. */
export interface Frame {
  event?: string
  id?: string
  retry?: number
  data?: Record<string, unknown>
}

export interface Address {
  host?: string
  port?: number
  socketPath?: string
}

interface Waiter {
  until: (frame: Frame) => boolean
  resolve: (frame: Frame) => void
  reject: (error: Error) => void
}

/** Reads an event stream over a real socket, as EventSource does, without connecting again by itself. */
export class Subscriber {
  readonly frames: Frame[] = []
  lastEventId: string | undefined
  comments = 0
  /** Resolves when the connection is gone, however it went. */
  readonly ended: Promise<void>
  readonly request: ClientRequest
  response: IncomingMessage | undefined
  readonly #waiters = new Set<Waiter>()
  readonly #listeners = new Set<(frame: Frame) => void>()
  #rest = ''

  constructor (address: Address, path: string, headers: Record<string, string> = {}) {
    this.request = get({ ...address, path, headers, agent: false })
    this.ended = new Promise(resolve => { this.request.once('close', resolve) })
    this.request.on('response', response => {
      this.response = response
      response.setEncoding('utf8')
      response.on('data', (text: string) => { this.#read(text) })
      // cut off by the server: `close` says so, too
      response.on('error', () => this.#fail(new Error('the stream was cut off')))
      response.on('close', () => this.#fail(new Error('the stream has ended')))
    })
    this.request.on('error', error => this.#fail(error))
  }

  /** The first frame, of those read and those to come, for which this holds. */
  async until (holds: (frame: Frame) => boolean): Promise<Frame> {
    const found = this.frames.find(holds)
    if (found !== undefined) return found
    return await new Promise((resolve, reject) => { this.#waiters.add({ until: holds, resolve, reject }) })
  }

  /** The first frame of this name. */
  async event (name: string): Promise<Frame> {
    return await this.until(frame => frame.event === name)
  }

  onFrame (listener: (frame: Frame) => void): void {
    this.#listeners.add(listener)
  }

  /** The names of the frames so far, without those that only move the cursor. */
  names (): string[] {
    return this.frames.map(({ event }) => event).filter(event => event !== undefined)
  }

  close (): void {
    this.request.destroy()
  }

  #read (text: string): void {
    const blocks = (this.#rest + text).split('\n\n')
    // what is not complete is thrown away when the connection ends
    this.#rest = blocks.pop() ?? ''
    for (const block of blocks) this.#frame(block)
  }

  #frame (block: string): void {
    const frame: Frame = {}
    for (const line of block.split('\n')) {
      if (line.startsWith(':')) this.comments++
      else if (line.startsWith('id: ')) frame.id = this.lastEventId = line.slice(4)
      else if (line.startsWith('event: ')) frame.event = line.slice(7)
      else if (line.startsWith('data: ')) frame.data = JSON.parse(line.slice(6))
      else if (line.startsWith('retry: ')) frame.retry = Number(line.slice(7))
      else throw new Error(`not a line of an event stream: ${JSON.stringify(line)}`)
    }
    this.frames.push(frame)
    for (const listener of this.#listeners) listener(frame)
    for (const waiter of this.#waiters) {
      if (!waiter.until(frame)) continue
      this.#waiters.delete(waiter)
      waiter.resolve(frame)
    }
  }

  #fail (error: Error): void {
    for (const waiter of this.#waiters) waiter.reject(error)
    this.#waiters.clear()
  }
}
