import type { CopyResult, VerifyResult } from '../api/kinds.ts'
import type { Progress } from '../api/task.ts'
import { AppError, Canceled } from '../errors.ts'
import { answers, type Answer } from './answers.ts'
import type { Outcome } from './outcome.ts'
import type { CopyAgentFunctions, CopyJob, CopyMeasure, CopyPreview, CopyWorkerFunctions, LockRefusal, VerifyJob } from './protocol.ts'
import type { SpaceAccount } from './space-ledger.ts'
import { WorkerWatch } from './worker-watch.ts'
import type { Workers } from './workers.ts'

type ClaimSpace = CopyAgentFunctions['claimSpace']

/** What a running copy needs of its task. */
interface CopyContext {
  signal: AbortSignal
  accepting (): void
  accepted (): void
  progress (progress: Progress): void
  measured? (measure: CopyMeasure): void
  space: Pick<SpaceAccount, 'settle'> & { claim: ClaimSpace }
  onTuning (listener: (tuning: { bandwidth: number | null }) => void): void
  /** Calls back when the leases of the copy can no longer be relied on. Returns what ends that. */
  onLocksRefused? (listener: (refusal: LockRefusal) => void): () => void
}

/** How long the result waits for the worker to be gone, with its leases. Longer only where its storage hangs. */
const goneWithinMs = 2000
const previewDeadlineMs = 10_000

/** Copies in a worker process of its own. Throws `signal.reason` when it was canceled. */
export async function copyInWorker (workers: Workers, job: CopyJob, context: CopyContext): Promise<CopyResult> {
  const { domain, image } = job.request.what === 'copy' ? job.request.target : job.request
  return await inWorker(workers, `Copying ${domain}/${image}`, answers.copied, async remote => await remote.copy(job), 'copying', context)
}

/** Compares in a worker process of its own. Throws `signal.reason` when it was canceled. */
export async function verifyInWorker (workers: Workers, job: VerifyJob, context: CopyContext): Promise<VerifyResult> {
  return await inWorker(workers, `Verifying ${job.image.domain}/${job.image.image}`, answers.verified, async remote => await remote.verify(job), 'verifying', context)
}

/** Asks a worker what a copy would do. */
export async function previewInWorker (workers: Workers, job: CopyJob, space: { claim: ClaimSpace }): Promise<CopyPreview> {
  const ignore = () => {}
  const worker = workers.take({ accepting: ignore, accepted: ignore, progress: ignore, measured: ignore, claimSpace: space.claim, spaceSettled: ignore })
  try {
    return await worker.call('The preview', answers.preview, async remote => await remote.preview(job), previewDeadlineMs)
  } finally {
    worker.end()
    workers.prepare()
    await Promise.race([worker.gone, pause(goneWithinMs)])
  }
}

/** How a worker ends that had no error. */
type End<T> = { canceled: true } | { result: T }

/**
 * Has something done by a worker and resolves with its result. By then the leases are free, so that the next command on
 * the image finds it free.
 */
async function inWorker<T> (
  workers: Workers, what: string, answer: Answer<End<T>>, work: (remote: CopyWorkerFunctions) => Promise<Outcome<End<T>>>,
  phase: Progress['phase'], context: CopyContext
): Promise<T> {
  const { signal, accepting, accepted, measured = () => {}, space, onTuning, onLocksRefused } = context
  signal.throwIfAborted()
  const worker = workers.take({
    accepting,
    accepted,
    progress: progress => { watch.report(progress) },
    measured,
    claimSpace: space.claim,
    spaceSettled: space.settle
  })
  const watch = new WorkerWatch(worker.pid, { phase }, context.progress)
  const stop = () => {
    const why = signal.reason instanceof Canceled ? 'canceled' : 'deadline'
    worker.tell(async remote => { await remote.stop.asEvent(why) })
  }
  signal.addEventListener('abort', stop)
  let unwatch = () => {}
  try {
    const ending = worker.call(what, answer, async remote => await work(remote))
    // messages keep their order: whatever was changed before the start arrives after the job
    onTuning(({ bandwidth }) => { worker.tell(async remote => { await remote.setBandwidth.asEvent(bandwidth) }) })
    unwatch = onLocksRefused?.(({ code, detail }) => {
      worker.tell(async remote => { await remote.fence.asEvent({ code, detail }) })
    }) ?? unwatch
    const end = await ending
    if ('canceled' in end) {
      signal.throwIfAborted()
      throw new AppError('internal', `${what}: its process says that it was stopped, and nobody did that.`, { changed: true })
    }
    return end.result
  } finally {
    signal.removeEventListener('abort', stop)
    unwatch()
    watch.stop()
    worker.end()
    workers.prepare()
    await Promise.race([worker.gone, pause(signal.aborted ? undefined : goneWithinMs)])
  }
}

/** Resolves after the time; never, without one. */
async function pause (ms: number | undefined): Promise<void> {
  await new Promise<void>(resolve => { if (ms !== undefined) setTimeout(resolve, ms).unref() })
}
