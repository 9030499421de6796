import type { CopyResult, VerifyResult } from '../api/kinds.ts'
import type { Progress } from '../api/task.ts'
import { programFolder } from '../location.ts'
import { Child } from './child.ts'
import type { Outcome } from './outcome.ts'
import type { CopyAgentFunctions, CopyJob, CopyMeasure, CopyPreview, CopySettings, CopyWorkerFunctions, VerifyJob } from './protocol.ts'

/** What a running copy needs of its task. */
interface CopyContext {
  signal: AbortSignal
  accepted (): void
  progress (progress: Progress): void
  measured? (measure: CopyMeasure): void
  onTuning (listener: (tuning: { bandwidth: number | null }) => void): void
}

/** How a worker runs. */
type Standing = Pick<CopySettings, 'nice' | 'ioPriority'> & Pick<CopyJob, 'registered'>
type Worker = Child<CopyWorkerFunctions, Omit<CopyAgentFunctions, 'ready'>>

/** How long the result waits for the worker to be gone, with its leases. Longer only where its storage hangs. */
const goneWithinMs = 2000
const previewDeadlineMs = 10_000

/** Copies in a worker process of its own. Throws `signal.reason` when it was canceled. */
export async function copyInWorker (job: CopyJob, context: CopyContext): Promise<CopyResult> {
  const { domain, image } = job.request.what === 'copy' ? job.request.target : job.request
  return await inWorker(`Copying ${domain}/${image}`, async remote => await remote.copy(job), { ...job.settings, registered: job.registered }, context)
}

/** Compares in a worker process of its own. Throws `signal.reason` when it was canceled. */
export async function verifyInWorker (job: VerifyJob, priority: Pick<CopySettings, 'nice' | 'ioPriority'>, context: CopyContext): Promise<VerifyResult> {
  return await inWorker(`Verifying ${job.image.domain}/${job.image.image}`, async remote => await remote.verify(job), { ...priority, registered: job.registered }, context)
}

/** Asks a worker what a copy would do. */
export async function previewInWorker (job: CopyJob): Promise<CopyPreview> {
  const worker = startWorker({ accepted: () => {}, progress: () => {}, measured: () => {} }, { ...job.settings, registered: job.registered })
  try {
    return await worker.call('The preview', async remote => await remote.preview(job), previewDeadlineMs)
  } finally {
    worker.end()
    await Promise.race([worker.gone, pause(goneWithinMs)])
  }
}

/**
 * Has something done by a worker and resolves with its result. By then the leases are free, so that the next command on
 * the image finds it free.
 */
async function inWorker<T> (what: string, work: (remote: CopyWorkerFunctions) => Promise<Outcome<{ canceled: true } | { result: T }>>, standing: Standing, context: CopyContext): Promise<T> {
  const { signal, accepted, progress, measured = () => {}, onTuning } = context
  signal.throwIfAborted()
  const worker = startWorker({ accepted, progress, measured }, standing)
  const cancel = () => { worker.tell(async remote => { await remote.cancel.asEvent() }) }
  signal.addEventListener('abort', cancel)
  try {
    const ending = worker.call(what, async remote => await work(remote))
    // messages keep their order: whatever was changed before the start arrives after the job
    onTuning(({ bandwidth }) => { worker.tell(async remote => { await remote.setBandwidth.asEvent(bandwidth) }) })
    const end = await ending
    if ('canceled' in end) throw signal.reason
    return end.result
  } finally {
    signal.removeEventListener('abort', cancel)
    worker.end()
    await Promise.race([worker.gone, pause(signal.aborted ? undefined : goneWithinMs)])
  }
}

function startWorker (listener: Omit<CopyAgentFunctions, 'ready'>, { nice, ioPriority, registered }: Standing): Worker {
  // what the worker starts inherits both
  const under = [...nice === 0 ? [] : ['nice', '-n', String(nice)], ...ioPriority === 'normal' ? [] : ['ionice', ...ioPriority === 'idle' ? ['-c', '3'] : ['-c', '2', '-n', '7']]]
  return new Child(new URL('storage/copy/main', programFolder), listener, { under, registered })
}

/** Resolves after the time; never, without one. */
async function pause (ms: number | undefined): Promise<void> {
  await new Promise<void>(resolve => { if (ms !== undefined) setTimeout(resolve, ms).unref() })
}
