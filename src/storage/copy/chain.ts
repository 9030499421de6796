import { randomUUID } from 'node:crypto'
import { AppError } from '../../errors.ts'
import { openArea, type Area } from '../area.ts'
import { lookForImageLease, takeImageLease } from '../image-lease.ts'
import { assertTemplate, hasBase } from '../layout/ovirt/kept-chain.ts'
import { newerBases } from '../layout/soundness.ts'
import { sourceChain, type ChainVolume } from '../layout/source-chain.ts'
import type { CopyJob, CopyRequest } from '../protocol.ts'
import { keyOf, readRecord, type CopyRecord, type KeptChain, type PartOf } from '../record.ts'
import { decide, type AcceptJob, type Acceptance, type Decision, type Membership, type Single, type SingleDecision } from './accept.ts'
import { placeOf } from './take-source.ts'

/** A volume below the top of a chain. */
interface Lower {
  /** Where it is on the target: a template is an image of its own. */
  image: string
  volume: string
  /** The length of its file; 0 if it is there. */
  bytes: number
}

/** The copy of a chain that is accepted: every volume that is to be copied is there, ILLEGAL, with its own copy record. */
export interface AcceptedChain {
  area: Area
  image: string
  /** The base first. Without an acceptance, it was there. */
  lower: Array<Lower & { single?: Single }>
  top: Single
  request: CopyRequest
}

/** The copy of a chain that a request is about; undefined if it is about one volume or image. */
export async function chainRequest (job: CopyJob): Promise<CopyRequest | undefined> {
  const { request } = job
  if (request.what === 'copy') return request.chain === 'keep' ? request : undefined
  if (request.volume === undefined) return undefined
  const area = await openArea(placeOf(job, request.domain))
  try {
    // who holds the lease meanwhile may change it: it is read again under that
    const record = await readRecord(area.copies, area.id, keyOf(request))
    return record?.chain === undefined || record.phase === 'done' || record.phase === 'deleting' ? undefined : recordedRequest(record)
  } finally {
    await area.close()
  }
}

function recordedRequest ({ domain, image, volume, given, generation, source, verify }: CopyRecord): CopyRequest | undefined {
  const [top] = source?.files ?? []
  if (source === undefined || top === undefined) return undefined
  return {
    what: 'copy',
    source: { domain: source.domain, image: top.image, volume: top.volume },
    target: { domain, image, volume, ...(given === true && { generation }), allocation: 'sparse' },
    chain: 'keep',
    verify,
    onExisting: 'refuse',
    ignoreSpace: true
  }
}

/**
 * The first half of the accept step of a chain, of which every volume is a copy by itself: of its file, under its own
 * lease, with its own record. That of the top is also the record of the chain: it is made first and says what else belongs
 * to it, so that whatever a crash leaves is part of one interrupted copy.
 */
export async function decideChain (job: AcceptJob, request: CopyRequest): Promise<Decision> {
  const { source, target } = request
  const [from, area] = await Promise.all([openArea(placeOf(job, source.domain)), openArea(placeOf(job, target.domain))])
  const found = await sourceChain(from, source)
  const [top, ...below] = found.volumes?.() ?? []
  if (top === undefined || area.layout !== 'ovirt') throw new AppError('not-supported', 'Only from one domain of the layout ovirt to another can a chain be kept. Leave out "chain".')
  if (target.volume !== undefined && target.volume !== top.volume) throw new AppError('bad-request', `A chain keeps the names of its volumes: its top is ${top.volume}, not ${target.volume}. Leave out the target's "volume".`)
  if (target.format !== undefined && target.format !== top.layer.format) throw new AppError('format-conflict', `A chain keeps the formats of its volumes: its top is ${top.layer.format}, not ${target.format}. Leave out "format", or "chain".`)

  const named = { image: target.image, volume: top.volume }
  const membership: Membership = { layer: top.layer }
  const head = await decide({ ...job, request: job.request.what === 'mend' ? job.request : volumeRequest(request, top, target.image) }, membership)
  // the chain was whole before its top was: nothing is left to do but that one's last step
  if (head.preview.outcome === 'finish') return head
  const recorded = (await readRecord(area.copies, area.id, keyOf(named)))?.chain
  const id = head.preview.outcome === 'copy' || recorded === undefined ? randomUUID() : recorded.id
  const partOf = { ...named, id }
  const lower = await allOrUppermost(below.toReversed().map(async (volume, index) => {
    const decided = await decideLower(job, request, { from, area, volume, partOf, isBase: index === 0 })
    job.accepting()
    return decided
  }))
  const chain: KeptChain = { id, volumes: lower.map(({ image, volume, bytes }) => ({ image, volume, bytes })) }
  if (head.preview.outcome === 'copy') membership.chain = chain
  else assertSameChain(recorded, chain)
  const times = [top, ...below].map(({ image, volume, modified }) => ({ name: `${image}/${volume}`, modified }))
  const warnings = newerBases(times)
  const preview = { ...totalOf(head, lower), ...(warnings.length > 0 && { warnings }) }
  return { preview, proceed: async () => await proceed({ head, lower }, { area, image: target.image, request }, job.accepting) }
}

/**
 * Waits for all volumes, the base first. Where several are refused, the uppermost says why, whichever is looked at fastest:
 * what it declares of the volume below it decides how that one would be read.
 */
async function allOrUppermost<T> (volumes: ReadonlyArray<Promise<T>>): Promise<T[]> {
  const outcomes = await Promise.allSettled(volumes)
  const refused = outcomes.findLast(outcome => outcome.status === 'rejected')
  if (refused !== undefined) throw refused.reason
  return outcomes.flatMap(outcome => outcome.status === 'fulfilled' ? [outcome.value] : [])
}

/** The copy of one volume of the chain, by itself. */
function volumeRequest (request: CopyRequest, { image: from, volume, allocation }: ChainVolume, image: string): CopyRequest {
  const { source, target } = request
  const isOwn = image === target.image
  return {
    ...request,
    // a template is read as its own image, whichever one it is copied for
    source: { domain: source.domain, image: from, volume },
    target: { domain: target.domain, image, volume, allocation, ...(isOwn && target.generation !== undefined && { generation: target.generation }) }
  }
}

type DecidedLower = Lower & { decision?: SingleDecision }

async function decideLower (job: AcceptJob, request: CopyRequest, { from, area, volume: found, partOf, isBase }: { from: Area, area: Area, volume: ChainVolume, partOf: PartOf, isBase: boolean }): Promise<DecidedLower> {
  const { volume } = found
  const image = found.image === request.source.image ? request.target.image : found.image
  const [there, here] = [{ area, image, volume }, { area: from, image: found.image, volume }]
  if (image !== request.target.image) await assertTemplate(there, here, { image: request.source.image })
  if (isBase) {
    // whoever deletes it needs its lease
    const take = job.isPreview === true ? lookForImageLease : takeImageLease
    const lease = await take(area, { image, volume }, 'shared')
    if (lease !== undefined && await hasBase(there, here, found)) return { image, volume, bytes: 0 }
    await lease?.release()
  }
  const decision = await decide({ ...job, request: volumeRequest(request, found, image) }, { layer: found.layer, partOf })
  return { image, volume, bytes: decision.preview.bytesTotal, decision }
}

/** Each volume's own file is compared with what it was; here, which volumes there are. */
function assertSameChain (recorded: KeptChain | undefined, found: KeptChain): void {
  const names = (chain: KeptChain | undefined) => (chain?.volumes ?? []).map(({ image, volume }) => `${image}/${volume}`)
  if (names(recorded).join() !== names(found).join()) {
    throw new AppError('source-changed', `The chain of the source has changed since the copy began (${names(recorded).join(', ') || 'none'} below the top, now ${names(found).join(', ') || 'none'}): what is done of it is of no use. Delete it and copy again.`, { members: { differs: ['the chain'] } })
  }
}

function totalOf (head: SingleDecision, lower: readonly DecidedLower[]): Decision['preview'] {
  const previews = [head, ...lower.flatMap(({ decision }) => decision ?? [])].map(({ preview }) => preview)
  const sum = (key: 'bytesTotal' | 'bytesDone' | 'bytesNeeded' | 'bytesToMove') => previews.reduce((bytes, preview) => bytes + (preview[key] ?? 0), 0)
  const free = previews.find(({ bytesFree }) => bytesFree !== undefined)?.bytesFree
  const outcome = head.preview.outcome === 'already-done' && previews.some(({ outcome }) => outcome !== 'already-done') ? 'continue' : head.preview.outcome
  return { outcome, bytesTotal: sum('bytesTotal'), ...(outcome === 'continue' && { bytesDone: sum('bytesDone') }), ...(free !== undefined && { bytesNeeded: sum('bytesNeeded'), bytesToMove: sum('bytesToMove'), bytesFree: free }) }
}

/** The record of the chain, then every volume below the top, then that: when it is there, all of it is. */
async function proceed ({ head, lower }: { head: SingleDecision, lower: readonly DecidedLower[] }, { area, image, request }: Pick<AcceptedChain, 'area' | 'image' | 'request'>, accepting: () => void): Promise<Acceptance> {
  const begun = [head]
  try {
    await head.announce?.()
    const accepted: AcceptedChain['lower'] = []
    for (const { decision, ...volume } of lower) {
      if (decision !== undefined) begun.push(decision)
      accepted.push({ ...volume, ...(decision !== undefined && { single: await decision.proceed() }) })
      accepting()
    }
    return { how: 'chain', chain: { area, image, lower: accepted, top: await head.proceed(), request } }
  } catch (error) {
    // a chain that was being continued stays as it is: interrupted
    if (head.announce === undefined) throw error
    try {
      for (const { undo } of begun.reverse()) await undo?.()
    } catch (cause) {
      throw new AppError('storage-failed', `The copy of the chain to ${image} could not be begun, nor could what was begun be removed. The fixes of domain ${area.id} show what is left.`, { cause, changed: true })
    }
    throw error
  }
}
