import type { CopyResult } from '../../api/kinds.ts'
import type { Progress } from '../../api/task.ts'
import { AppError } from '../../errors.ts'
import { closeFd } from '../../system/directory.ts'
import { becomeParent } from '../layout/ovirt/kept-chain.ts'
import type { CopyJob } from '../protocol.ts'
import type { Single } from './accept.ts'
import type { AcceptedChain } from './chain.ts'
import { compareImages } from './compare.ts'
import { sourceChanges, type Source } from './source.ts'
import { share } from './take-source.ts'

type Report = (progress: Progress) => void

/** Copies one volume, or does what is left to do of it. */
export type RunVolume = (single: Single, report: Report) => Promise<CopyResult>

/** Copies the volumes of a chain that is accepted, the base first: each is LEGAL and whole before the next one is begun. */
export async function runChain (job: CopyJob, { area, image, lower, top, request }: AcceptedChain, { signal, report, run }: { signal: AbortSignal, report: Report, run: RunVolume }): Promise<CopyResult> {
  const singles = [...lower.flatMap(({ single }) => single ?? []), top]
  const told = new Told(singles, report)
  const results: CopyResult[] = []
  for (const { image: home, volume, single } of lower) {
    signal.throwIfAborted()
    if (single === undefined) {
      if (request.verify) await compareBase(job, { image: home, volume }, { request, signal, report: told.report })
    } else {
      results.push(await run(single, told.report))
      told.next()
      // from here on it is only read: others may be based on it, too, but nobody may remove it
      await letGo(single)
      await share(area, { image: home, volume })
    }
    await becomeParent({ area, image: home, volume }, { image })
  }
  signal.throwIfAborted()
  results.push(await run(top.how === 'run' ? watched(top, lower) : top, told.report))
  return totalOf(results)
}

async function letGo (single: Single): Promise<void> {
  if (single.how !== 'run') return await single.lease.release()
  await closeFd(single.accepted.part.fd)
  await single.accepted.lease.release()
}

/** The top becomes visible only if nothing of the chain has changed since its volumes were copied. */
function watched (top: Extract<Single, { how: 'run' }>, lower: AcceptedChain['lower']): Single {
  const { source } = top.accepted
  const others = lower.flatMap(({ single }) => single?.how === 'run' ? single.accepted : [])
  const changes: Source['changes'] = async () => [
    ...await source.changes(),
    ...(await Promise.all(others.map(async ({ source, record }) => (await sourceChanges(source, record.source?.files ?? [])).changed))).flat()
  ]
  return { ...top, accepted: { ...top.accepted, source: { ...source, changes } } }
}

/** A base that was there is only read: it is compared with that of the source, like the volumes that are copied. */
async function compareBase (job: CopyJob, { image, volume }: { image: string, volume: string }, { request, signal, report }: { request: AcceptedChain['request'], signal: AbortSignal, report: Report }): Promise<void> {
  const { source, target } = request
  const { identical } = await compareImages({
    image: { domain: target.domain, image, volume }, against: { domain: source.domain, image: source.image, volume }, places: job.places
  }, signal, { accepted: () => {}, progress: report })
  if (!identical) throw new AppError('verification-failed', `Volume ${volume} of image ${image} in domain ${target.domain} was there before the copy of the chain, and differs from that of the source. It was not changed; the other volumes cannot be based on it.`)
}

/** Makes of what the copy of each volume reports what the copy of the chain does. */
class Told {
  readonly #report: Report
  /** Those that are not done with yet, the present one first. */
  readonly #left: Single[]
  readonly #bytesTotal: number
  readonly #bytesToMove: number
  #bytesBefore = 0
  #movedBefore = 0

  constructor (singles: readonly Single[], report: Report) {
    this.#report = report
    this.#left = [...singles]
    this.#bytesTotal = singles.reduce((sum, single) => sum + bytesOf(single), 0)
    this.#bytesToMove = singles.reduce((sum, single) => sum + toMove(single), 0)
  }

  readonly report: Report = ({ bytesDone = 0, bytesMoved = 0, etaSeconds, ...progress }) => {
    const rate = Math.min(progress.bytesPerSecond ?? 0, progress.bandwidth ?? Infinity)
    const later = this.#left.slice(1).reduce((sum, single) => sum + toMove(single), 0)
    this.#report({
      ...progress,
      bytesTotal: this.#bytesTotal,
      bytesDone: Math.min(this.#bytesBefore + bytesDone, this.#bytesTotal),
      ...(progress.bytesToMove !== undefined && { bytesToMove: this.#bytesToMove, bytesMoved: Math.min(this.#movedBefore + bytesMoved, this.#bytesToMove) }),
      ...(etaSeconds !== undefined && rate > 0 && { etaSeconds: etaSeconds + Math.round(later / rate) })
    })
  }

  next (): void {
    const done = this.#left.shift()
    if (done === undefined) return
    this.#bytesBefore += bytesOf(done)
    this.#movedBefore += toMove(done)
  }
}

const bytesOf = (single: Single) => single.how === 'run' ? single.accepted.record.virtualSize : single.record.virtualSize
/** What a run before this one has moved, and what is left. */
const toMove = (single: Single) => single.how === 'run' ? single.accepted.record.bytesMoved + single.accepted.work.bytesToMove : 0

/** What came of the chain: that of its top, with the bytes of all its volumes. */
function totalOf (results: readonly CopyResult[]): CopyResult {
  const top = results.at(-1)
  if (top === undefined) throw new Error('a chain has a top')
  const { verified: _, cloned: __, alreadyDone: ___, ...rest } = top
  const sum = (key: 'bytesTotal' | 'bytesCopied' | 'bytesMoved') => results.reduce((bytes, result) => bytes + result[key], 0)
  const all = (key: 'verified' | 'cloned' | 'alreadyDone') => results.every(result => result[key] === true) ? { [key]: true } : {}
  return { ...rest, bytesTotal: sum('bytesTotal'), bytesCopied: sum('bytesCopied'), bytesMoved: sum('bytesMoved'), ...all('verified'), ...all('cloned'), ...all('alreadyDone') }
}
