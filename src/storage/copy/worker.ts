import { AppError } from '../../errors.ts'
import type { CopyResult, Dropped } from '../../api/kinds.ts'
import { markAsPreview } from '../../system/openers.ts'
import { takesDirectIo } from '../../system/page-cache.ts'
import type { CopyAgentFunctions, CopyEnd, CopyJob, CopyPreview, StopReason, VerifyEnd, VerifyJob } from '../protocol.ts'
import { withArea } from '../area.ts'
import { explain } from '../failure.ts'
import { namingInodes } from '../space.ts'
import { nextGeneration } from '../layout/ovirt/volume-metadata.ts'
import { subtract, total } from '../ranges.ts'
import { keyOf, type CopyRecord } from '../record.ts'
import { releaseVolumes } from '../volume-lease.ts'
import { decide, type Accepted, type Decision, type Single } from './accept.ts'
import { decideChain, chainRequest, type AcceptedChain } from './chain.ts'
import { runChain, type RunVolume } from './chain-run.ts'
import { compareImages, confirm } from './compare.ts'
import { Copier } from './copier.ts'
import { complete, finish } from './finish.ts'
import { clusterBytesOf } from './part.ts'
import { assertHeaders } from './headers.ts'
import { Pulse } from './pulse.ts'
import { Session } from './session.ts'
import { recordedFiles, sourceWarnings, syncSource } from './source.ts'
import { withSpace } from './space.ts'
import { placeOf } from './take-source.ts'
import { outlastYouth } from './youth.ts'

/** One copy, from the accept step to the end. */
export class CopyWorker {
  readonly #agent: Omit<CopyAgentFunctions, 'ready'>
  readonly #stopped = new AbortController()
  /** Leases no longer keep others away. */
  readonly #fenced = new AbortController()
  readonly #signal = AbortSignal.any([this.#stopped.signal, this.#fenced.signal])
  /** A caller does not want the copy to go on. */
  #isCanceled = false
  #bandwidth: number | null | undefined
  #copier: Copier | undefined

  constructor (agent: Omit<CopyAgentFunctions, 'ready'>) {
    this.#agent = agent
  }

  stop (why: StopReason): void {
    this.#isCanceled ||= why === 'canceled'
    this.#stopped.abort(new AppError('copy-failed', 'The copy was stopped.'))
  }

  /** Ends the copy with this error. Nothing more is written, also not into its record. */
  fence (error: AppError): void {
    this.#fenced.abort(error)
  }

  setBandwidth (bandwidth: number | null): void {
    this.#bandwidth = bandwidth
    this.#copier?.setBandwidth(bandwidth)
  }

  /** Does the job. Every program it started is gone when this settles; the leases go with the process. */
  async copy (job: CopyJob): Promise<CopyEnd> {
    const accepting = new Pulse([], this.#agent.progress, { phase: 'copying' })
    try {
      this.#signal.throwIfAborted()
      const { proceed } = await this.#decision(job)
      this.#signal.throwIfAborted()
      const acceptance = await proceed()
      accepting.stop()
      this.#agent.accepted()
      const report = this.#agent.progress
      return { result: acceptance.how === 'chain' ? await this.#runChain(job, acceptance.chain) : await this.#runOne(job, acceptance, report) }
    } catch (error) {
      if (error === this.#stopped.signal.reason && this.#stopped.signal.aborted) return { canceled: true }
      throw await namingInodesOf(job, error)
    } finally {
      accepting.stop()
      // nothing writes any more, and whoever is told the end finds the volumes free
      await releaseVolumes()
    }
  }

  /** Looks at everything that the accept step looks at, and changes nothing. */
  async preview (job: CopyJob): Promise<CopyPreview> {
    markAsPreview()
    try {
      return (await this.#decision(job, { isPreview: true })).preview
    } catch (error) {
      throw await namingInodesOf(job, error)
    }
  }

  /** What is decided about a copy, of an image, a volume or a chain. */
  async #decision (job: CopyJob, { isPreview = false } = {}): Promise<Decision> {
    const inWorker = { ...job, claim: this.#agent.claimSpace, signal: this.#stopped.signal, isPreview, accepting: this.#agent.accepting }
    const chain = await chainRequest(job)
    return chain === undefined ? await decide(inWorker) : await decideChain(inWorker, chain)
  }

  /** Compares two images. */
  async verify (job: VerifyJob): Promise<VerifyEnd> {
    const { signal } = this.#stopped
    const accepting = new Pulse([], this.#agent.progress, { phase: 'verifying' })
    const accepted = () => {
      accepting.stop()
      this.#agent.accepted()
    }
    try {
      return { result: await compareImages(job, signal, { ...this.#agent, accepted }) }
    } catch (error) {
      if (signal.aborted && error === signal.reason) return { canceled: true }
      throw error
    } finally {
      accepting.stop()
      await releaseVolumes()
    }
  }

  async #runChain (job: CopyJob, chain: AcceptedChain): Promise<CopyResult> {
    const signal = this.#signal
    const { top } = chain
    let isTop = false
    const run: RunVolume = async (single, report) => {
      isTop = single.how === 'run' && top.how === 'run' && single.accepted.part === top.accepted.part
      return await this.#runOne(job, single, report)
    }
    try {
      return await runChain(job, chain, { signal, report: this.#agent.progress, run })
    } catch (error) {
      // whose turn it was has taken note of it itself, and only the top's record is that of the chain
      if (this.#isCanceled && !isTop && chain.top.how === 'run') await noteCancel(new Session({ ...chain.top.accepted, signal, fenced: this.#fenced.signal }))
      throw error
    }
  }

  async #runOne (job: CopyJob, single: Single, report: CopyAgentFunctions['progress']): Promise<CopyResult> {
    switch (single.how) {
      case 'done':
        if (single.toCompare !== undefined) await confirm(job, single.record, single.toCompare, this.#stopped.signal, report)
        return { ...resultOf(single.record, 0, 0, single.dropped), alreadyDone: true }
      case 'finish': return resultOf(await complete(single.area, single.target, single.record), 0, 0, single.dropped)
      case 'run': return await this.#run(job, single.accepted, report)
    }
  }

  async #run (job: CopyJob, accepted: Accepted, tell: CopyAgentFunctions['progress']): Promise<CopyResult> {
    const signal = this.#signal
    const session = new Session({ ...accepted, signal, fenced: this.#fenced.signal })
    const pulse = new Pulse([accepted.part.fd, accepted.source.files[0].fd], tell)
    const report = pulse.report.bind(pulse)
    try {
      const { begun, done } = accepted.record
      const holds = await settleSource(session)
      const redoneBytes = total(subtract(begun, done))
      if (redoneBytes > 0) this.#agent.measured({ redoneBytes })
      const direct = job.settings.directIo && await takesDirectIo(session.part.fd)
      // no await from here to the copier: a bandwidth that is set in between would be lost
      const copier = new Copier(session, {
        settings: job.settings,
        bandwidth: this.#bandwidth === undefined ? job.bandwidth : this.#bandwidth,
        expectedBytesPerSecond: job.expectedBytesPerSecond,
        clusterBytes: clusterBytesOf(session.record),
        direct,
        work: holds ? accepted.work : { ...accepted.work, known: undefined },
        reserveBytes: job.settings.reserveBytes,
        settled: bytes => { this.#agent.spaceSettled(keyOf(session.record), bytes) }
      }, report, measure => { this.#agent.measured(measure) })
      this.#copier = copier
      await copier.copy()
      const record = await finish(session, report)
      return { ...resultOf(record, copier.settledBytes, copier.movedBytes, accepted.source.dropped), ...sourceWarnings(accepted.source), ...(accepted.cloned === true && { cloned: true }) }
    } catch (error) {
      if (this.#isCanceled) await noteCancel(session)
      // whatever a program says of a header that was changed, that is the reason
      if (!signal.aborted) await assertHeaders(session).catch((reason: unknown) => { if (reason instanceof AppError) throw reason })
      throw await withSpace(error, { ...accepted, image: session.record.image, bytesNeeded: accepted.work.bytesNeeded })
    } finally {
      pulse.stop()
    }
  }
}

/** Where the target's domain has no inodes left, an error about space says so. */
async function namingInodesOf (job: CopyJob, error: unknown): Promise<unknown> {
  const { domain, image } = job.request.what === 'copy' ? job.request.target : job.request
  if (explain(error, '').code !== 'no-space') return error
  return await withArea(placeOf(job, domain), async area => await namingInodes(area, error, `Copying ${image}`)).catch(() => error)
}

/** Lets every host know that a caller does not want the copy to go on by itself. What the deadline has stopped may. A storage that takes no note of it changes nothing. */
async function noteCancel (session: Session): Promise<void> {
  await session.checkpoint(() => ({ canceledAt: new Date().toISOString() })).catch(() => { /* it stays interrupted, as after a crash */ })
}

/**
 * Makes sure, before anything is copied, that the source's identity will tell of every write. Returns whether what was
 * read of it before holds, too.
 */
async function settleSource (session: Session): Promise<boolean> {
  const { area, record, source, signal } = session
  if (record.source === undefined) return false
  if (record.done.length > 0) {
    // its identity is the one that was made sure of when the copy began
    await syncSource(source)
    return false
  }
  const found = await outlastYouth(area, keyOf(record), source, signal)
  if (found === 'changed') {
    const { domain, virtualSize } = record.source
    await session.checkpoint(() => ({ source: { domain, virtualSize, files: recordedFiles(source) } }))
  }
  return found === 'old'
}

function resultOf (record: CopyRecord, bytesCopied: number, bytesMoved: number, dropped: Dropped | undefined): CopyResult {
  const { domain, image, volume, generation, virtualSize, verified, epoch } = record
  return {
    domain,
    image,
    ...(volume !== undefined && { volume }),
    ...(generation !== undefined && { generation: nextGeneration(generation) }),
    bytesTotal: virtualSize,
    bytesCopied,
    bytesMoved,
    ...(verified !== undefined && { verified }),
    ...(dropped !== undefined && { dropped }),
    epoch
  }
}
