import process from 'node:process'
import { withArea, openArea, prepareArea, type Area, type DomainPlace } from '../area.ts'
import { openChannel } from '../channel.ts'
import { outcomeOf, type Outcome } from '../outcome.ts'
import type { DomainAgentFunctions, DomainFunctions } from '../protocol.ts'
import { createImage, deleteImage, sweep } from './changes.ts'
import { describe, imageStatus, listCopies, listFixes, listImages } from './reads.ts'
import { makeSample } from './sample.ts'

// The domain process: all file access to one domain that is not a copy. If the storage hangs, this hangs, and nothing else.

let place: DomainPlace | undefined

const unexpected = (error: unknown) => { console.error(error) }

/** Does something with the domain open; each call opens it anew, so that a remounted file system is noticed. */
async function inArea<T> (work: (area: Area) => Promise<T>): Promise<Outcome<T>> {
  return await outcomeOf(`Domain ${place?.id}`, async () => {
    if (place === undefined) throw new Error('the domain process was asked before it was told its domain')
    return await withArea(place, work)
  }, unexpected)
}

const functions: DomainFunctions = {
  prepare: async ({ place: at, create, sample }) => await outcomeOf(`Domain ${at.id}`, async () => {
    place = at
    await prepareArea(at, create)
    const area = await openArea(at)
    try {
      return { sampleMade: sample && await makeSample(area, process.execPath) }
    } finally {
      await area.close()
    }
  }, unexpected),
  describe: async () => await inArea(describe),
  images: async (after, limit) => await inArea(async area => await listImages(area, after, limit)),
  image: async (image, format) => await inArea(async area => await imageStatus(area, image, format)),
  copies: async () => await inArea(listCopies),
  fixes: async () => await inArea(listFixes),
  sweep: async () => await inArea(sweep),
  create: async request => await inArea(async area => await createImage(area, request)),
  delete: async request => await inArea(async area => await deleteImage(area, request, () => { agent.accepted.asEvent(request.call) }))
}

const agent = openChannel<DomainAgentFunctions, DomainFunctions>(process, functions)

// SIGKILL, because exit() waits for threads that are blocked in a dead file system
process.on('disconnect', () => { process.kill(process.pid, 'SIGKILL') })

agent.ready.asEvent()
