import process from 'node:process'
import { withArea, openArea, prepareArea, type Area, type DomainPlace } from '../area.ts'
import { openChannel } from '../channel.ts'
import { outcomeOf, type Outcome } from '../outcome.ts'
import { patience } from '../patience.ts'
import { findRegistration } from '../../system/registration.ts'
import type { AgentMark, DomainAgentFunctions, DomainFunctions } from '../protocol.ts'
import { assertCreatable, namingInodes } from '../space.ts'
import { copiesNeed } from './copies-need.ts'
import { forgetCopy } from '../layout/forget.ts'
import { layouts } from './layouts.ts'
import { LockWatch } from './lock-watch.ts'
import { LockspaceKeeper } from './lockspace.ts'
import { describe } from './reads.ts'
import { makeSample } from './sample.ts'
import { neededSource, sourceState } from './sources.ts'
import { sweep } from './sweep.ts'

// The domain process: all file access to one domain that is not a copy. If the storage hangs, this hangs, and nothing else.

findRegistration()

// who writes beyond `ulimit -f` gets this signal, and only then an error to tell of
process.on('SIGXFSZ', () => {})

let place: DomainPlace | undefined
let lockspace: LockspaceKeeper | undefined

const unexpected = (error: unknown) => { console.error(error) }

/** Does something with the domain open; each call opens it anew, so that a remounted file system is noticed. */
async function inArea<T> (work: (area: Area) => Promise<T>): Promise<Outcome<T>> {
  return await outcomeOf(`Domain ${place?.id}`, async () => {
    if (place === undefined) throw new Error('the domain process was asked before it was told its domain')
    const { id } = place
    return await withArea(place, async area => {
      try {
        return await work(area)
      } catch (error) {
        throw await namingInodes(area, error, `Domain ${id}`)
      }
    })
  }, unexpected)
}

/** For those who only read: a name or a file that another host has just replaced may be missing for a moment. */
async function read<T> (look: (area: Area) => Promise<T>): Promise<Outcome<T>> {
  return await inArea(async area => await patience(area)(async () => await look(area)))
}

const progressIntervalMs = 500
let progressedAt = 0

function progressed (): void {
  const now = performance.now()
  if (now - progressedAt < progressIntervalMs) return
  progressedAt = now
  agent.progressed.asEvent()
}

/** A user's PATH often lacks the folders of the system's programs. */
function withSystemFolders (path = '/usr/bin:/bin'): string {
  return `${path}:/usr/sbin:/sbin`
}

/** From the start on, also of a domain that is not there yet. */
function watchLocks (at: DomainPlace, self: AgentMark): void {
  new LockWatch(at, {
    self,
    report: status => { agent.judged.asEvent(status) },
    warn: (message, error) => { console.error(message, error) }
  }).start()
}

const functions: DomainFunctions = {
  prepare: async ({ place: at, create, sample, lockspace: options, agent: mark }) => await outcomeOf(`Domain ${at.id}`, async () => {
    place = at
    if (options !== undefined) lockspace = new LockspaceKeeper(at, options)
    try {
      await prepareArea(at, create)
    } finally {
      // it may be mounted later
      if (mark !== undefined) watchLocks(at, mark)
    }
    const area = await openArea(at)
    try {
      return { sampleMade: sample && await makeSample(area, process.execPath, withSystemFolders(process.env['PATH'])) }
    } finally {
      await area.close()
    }
  }, unexpected),
  describe: async () => await read(async area => ({ ...await describe(area), ...(lockspace !== undefined && { leases: await lockspace.status() }) })),
  images: async (after, limit) => await read(async area => await layouts[area.layout].images(area, after, limit)),
  image: async (image, format) => await read(async area => await layouts[area.layout].image(area, image, format)),
  copies: async query => await read(async area => await layouts[area.layout].copies(area, query, progressed)),
  fixes: async page => await read(async area => await layouts[area.layout].fixes(area, page, progressed)),
  neededSources: async copies => await read(async area => await Promise.all(copies.map(async named => await neededSource(area, named)))),
  sourceStates: async sources => await read(async area => await Promise.all(sources.map(async files => await sourceState(area, files)))),
  copiesNeed: async query => await read(async area => await copiesNeed(area, query)),
  creatable: async request => await inArea(async area => await assertCreatable(area, request)),
  sweep: async options => await inArea(async area => await sweep(area, options)),
  forget: async request => await inArea(async area => await forgetCopy(area, request)),
  create: async request => await inArea(async area => await layouts[area.layout].create(area, request)),
  delete: async request => await inArea(async area => await layouts[area.layout].delete(area, request, () => { agent.accepted.asEvent(request.call) }))
}

const agent = openChannel<DomainAgentFunctions, DomainFunctions>(process, functions)

// SIGKILL, because exit() waits for threads that are blocked in a dead file system
process.on('disconnect', () => { process.kill(process.pid, 'SIGKILL') })

agent.ready.asEvent()
