// What the page knows, and where from: one EventSource, and a GET where the stream only says that something changed.

import { clockAheadMs, read, Refusal } from './requests.js'

const imagesPerPage = 100
/** Of what needs attention: nobody reads more at once. */
const mostRows = 1000
/** Space, and what other hosts do, has no events. */
const lookAgainMs = 15_000
const changesSettleMs = 300

/** The state of the agent as far as it can be told, kept up to date. `changed` is called after every change. */
export class Live {
  /** connecting, live, broken (no stream), silent (a stream, but no answers), or out (the agent wants to know who asks). */
  connection = { state: 'connecting', words: 'Connecting' }
  /** When the agent last said anything: what is shown is as of then. */
  heardAt = Date.now()
  /** Whether the domains have been read yet. */
  looked = false
  agent
  /** Who looks at the page, and what he may do. */
  caller
  tasks = new Map()
  operations = new Map()
  /** Why there is nothing to tell of Gluster. */
  glusterProblem
  /** Whether Gluster has been asked yet. */
  glusterAsked = false
  domains = []
  /** By domain: its images, broken ones, copies, whether there are more, and whether it has been read yet. */
  shelves = new Map()
  /** Set when the agent was restarted under the open page: when, and which tasks it forgot. */
  restart
  /** Told to screen readers. */
  said = ''
  #instance
  #source
  #lastEventId
  #before = []
  #synced = false
  /** Whether the agent of this instance has said who it is, and who looks. */
  #introduced = false
  /** Counts the looks: answers may overtake each other, and an older one must not hide what a newer one has told. */
  #looks = 0
  #domainsLook = 0
  #operationsLook = 0
  /** When in this count an event told of an operation. */
  #operationNews = new Map()
  #pending = new Map()
  #changed

  constructor (changed) {
    this.#changed = changed
    this.#connect()
    setInterval(() => { this.#expire() }, 1000)
    setInterval(() => { if (!document.hidden && (this.connection.state === 'live' || this.connection.state === 'silent')) this.look() }, lookAgainMs)
    document.addEventListener('visibilitychange', () => {
      if (document.hidden) return
      // perhaps in another tab
      if (this.connection.state === 'out') this.#connect()
      else this.look()
    })
  }

  get active () { return [...this.tasks.values()].filter(({ endedAt }) => endedAt === undefined) }
  /** Whether whoever looks may start, cancel, continue and delete. The agent decides; the page only does not offer what it would refuse. */
  get mayOperate () { return this.caller === undefined || this.caller.scope !== 'read' }
  get finished () { return [...this.tasks.values()].filter(({ endedAt }) => endedAt !== undefined) }

  /** Looks at everything that has no events. */
  look () {
    if (!this.#introduced) void this.#introduce()
    void this.#try(async () => {
      const look = ++this.#looks
      const { items } = await read('domains')
      if (look < this.#domainsLook) return
      this.#takeDomains(items, look)
      await Promise.all(items.map(({ domain }) => this.#lookInto(domain)))
    })
    void this.#lookAtOperations()
  }

  /** Shows one more page of a domain's images. */
  async more (domain) {
    const shelf = this.shelves.get(domain)
    if (shelf?.next === undefined) return
    shelf.pages++
    await this.#lookInto(domain)
  }

  dismissRestart () {
    this.restart = undefined
    this.#changed()
  }

  #connect () {
    const resume = this.#lastEventId === undefined ? '' : `?lastEventId=${encodeURIComponent(this.#lastEventId)}`
    const source = new EventSource(`events${resume}`)
    // who comes back to the page twice before it is live would have two
    this.#source?.close()
    this.#source = source
    const on = (type, handle) => {
      source.addEventListener(type, event => {
        this.#lastEventId = event.lastEventId || this.#lastEventId
        this.heardAt = Date.now()
        handle(JSON.parse(event.data))
        this.#changed()
      })
    }
    source.addEventListener('error', () => {
      this.#synced = false
      if (this.connection.state !== 'broken') this.#set('broken', 'No connection to the agent, trying again')
      // the browser gives up for good on an answer that is an error, and does not tell which: of the agent, or of somebody in between
      if (source.readyState !== EventSource.CLOSED) return
      void this.#try(async () => { await read('agent/caller') })
      setTimeout(() => { if (this.#source === source) this.#connect() }, 3000)
    })
    on('bye', () => { this.#set('broken', 'The agent is stopping') })
    on('busy', () => { this.#set('broken', 'The agent has as many streams as it may have, trying again in a while') })
    on('reset', () => {
      // another one may come before the stream has caught up: what the first has cleared is not forgotten
      this.#before.push(...this.active)
      this.tasks.clear()
    })
    on('task', task => { this.#take(task) })
    on('progress', ({ id, runId, revision, progress }) => {
      const task = this.tasks.get(id)
      if (task?.runId === runId && task.revision <= revision) this.tasks.set(id, { ...task, progress })
    })
    on('forgotten', ({ id, runId }) => { if (runId === undefined || this.tasks.get(id)?.runId === runId) this.tasks.delete(id) })
    on('image', ({ domain }) => { this.#lookSoon(domain) })
    on('operation', operation => {
      this.#operationNews.set(operation.operationId, ++this.#looks)
      if (operation.state === 'gone') this.operations.delete(operation.operationId)
      else this.operations.set(operation.operationId, operation)
      this.#say(`Gluster: ${operation.kind} of ${operation.volume} is ${operation.state}`)
    })
    on('operationProgress', operation => {
      this.#operationNews.set(operation.operationId, ++this.#looks)
      this.operations.set(operation.operationId, operation)
    })
    on('synced', ({ instance }) => { this.#sync(instance) })
  }

  #sync (instance) {
    const before = new Map([...this.#before, ...this.active].map(task => [task.runId, task]))
    // what an instance before this one told is over, also where no `reset` has said so
    for (const [id, task] of this.tasks) if (task.instance !== instance) this.tasks.delete(id)
    if (this.#instance !== undefined && this.#instance !== instance) {
      this.restart = { at: Date.now(), forgotten: [...before.values()].filter(task => task.instance !== instance) }
    }
    this.#instance = instance
    this.#before = []
    this.#synced = true
    this.#set('live', 'Live')
    this.#introduced = false
    this.look()
  }

  async #introduce () {
    await this.#try(async () => {
      [this.agent, this.caller] = await Promise.all([read('agent'), read('agent/caller')])
      this.#introduced = true
    })
  }

  #takeDomains (items, look) {
    this.#domainsLook = look
    this.domains = items
    this.looked = true
    // a domain may be detached while the page is open: nobody can tell of its images then
    for (const domain of this.shelves.keys()) if (!items.some(item => item.domain === domain)) this.shelves.delete(domain)
  }

  #take (task) {
    const known = this.tasks.get(task.id)
    this.tasks.set(task.id, task)
    if (this.#synced && known?.state !== task.state) this.#say(`Task ${task.id}: ${task.state}`)
    // space changes with every copy
    if (this.#synced && task.endedAt !== undefined) for (const domain of domainsOf(task.spec)) this.#lookSoon(domain)
  }

  /** Finished tasks expire without an event: their time is known. */
  #expire () {
    // the times are the agent's, whose clock may be another
    const aheadMs = clockAheadMs()
    if (aheadMs === undefined) return
    const now = Date.now() - aheadMs
    const expired = this.finished.filter(({ expiresAt }) => expiresAt !== undefined && Date.parse(expiresAt) < now)
    for (const { id } of expired) this.tasks.delete(id)
    if (expired.length > 0) this.#changed()
  }

  /** One look for many changes. */
  #lookSoon (domain) {
    if (this.#pending.has(domain)) return
    this.#pending.set(domain, setTimeout(() => {
      this.#pending.delete(domain)
      void this.#try(async () => {
        const status = await read(`domains/${domain}`)
        this.domains = this.domains.map(one => one.domain === domain ? status : one)
        await this.#lookInto(domain)
      })
    }, changesSettleMs))
  }

  async #lookInto (domain) {
    const shelf = this.shelves.get(domain) ?? { read: false, items: [], broken: [], copies: [], pages: 1, look: 0 }
    this.shelves.set(domain, shelf)
    const look = ++this.#looks
    const take = told => { if (look > shelf.look) Object.assign(shelf, told, { look }) }
    await this.#try(async () => {
      const path = `domains/${domain}`
      const [items, broken, copying, interrupted] = await Promise.all([
        this.#pages(`${path}/images`, shelf.pages),
        read(`${path}/fixes?limit=${mostRows}`),
        read(`${path}/copies?state=copying&limit=${mostRows}`),
        read(`${path}/copies?state=interrupted&limit=${mostRows}`)
      ])
      take({
        read: true,
        items: items.items,
        next: items.next,
        broken: broken.items,
        copies: [...copying.items, ...interrupted.items],
        problem: undefined
      })
    }, problem => { take({ problem: problem.message }) })
  }

  async #pages (path, count) {
    const items = []
    let next
    do {
      const page = await read(`${path}?limit=${imagesPerPage}${next === undefined ? '' : `&cursor=${encodeURIComponent(next)}`}`)
      items.push(...page.items)
      next = page.next
    } while (next !== undefined && --count > 0)
    return { items, next }
  }

  async #lookAtOperations () {
    const look = ++this.#looks
    const take = told => {
      if (look < this.#operationsLook) return
      this.#operationsLook = look
      this.glusterAsked = true
      told()
    }
    await this.#try(async () => {
      const { items } = await read('gluster/operations')
      take(() => {
        // what events have told since is newer
        const hasNews = ({ operationId }) => this.#operationNews.get(operationId) > look
        const newer = [...this.operations.values()].filter(hasNews)
        this.operations = new Map([...items.filter(item => !hasNews(item)), ...newer].map(operation => [operation.operationId, operation]))
        for (const [id, at] of this.#operationNews) if (at < look) this.#operationNews.delete(id)
        this.glusterProblem = undefined
      })
    }, problem => { take(() => { this.glusterProblem = problem }) })
  }

  /** An agent that refuses is an answer, too; one that says nothing while its stream is open is told. */
  async #try (ask, refused = () => {}) {
    try {
      await ask()
      this.heardAt = Date.now()
      if (this.connection.state === 'silent') this.#set('live', 'Live')
    } catch (error) {
      if (error instanceof Refusal && error.status === 401) this.#logOut()
      else if (error instanceof Refusal) refused(error)
      else if (this.connection.state === 'live') this.#set('silent', 'The agent does not answer')
    }
    this.#changed()
  }

  /** The session is over, its token was taken back, or the agent was restarted, which forgets sessions. */
  #logOut () {
    // what is shown stays; nothing more is asked for until somebody has logged in. Several answers may say so
    this.#source?.close()
    this.#source = undefined
    this.#synced = false
    this.#set('out', 'You are not logged in any more')
  }

  #set (state, words) {
    this.connection = { state, words }
    this.#changed()
  }

  #say (words) { this.said = words }
}

function domainsOf (spec) {
  return [...new Set([spec.domain, spec.target?.domain].filter(domain => domain !== undefined))]
}
