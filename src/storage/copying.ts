import { Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import type { CopyResult, VerifyResult } from '../api/kinds.ts'
import { Progress } from '../api/task.ts'
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

type Priority = Pick<CopySettings, 'nice' | 'ioPriority'>
type Worker = Child<CopyWorkerFunctions, Omit<CopyAgentFunctions, 'ready'>>

const Measure = Type.Record(Type.String(), Type.Number())

/** How long the result waits for the worker to be gone, with its leases. Longer only where its storage hangs. */
const goneWithinMs = 2000
const previewDeadlineMs = 10_000

/** Copies in a worker process of its own. Throws `signal.reason` when it was canceled. */
export async function copyInWorker (job: CopyJob, context: CopyContext): Promise<CopyResult> {
  const { domain, image } = job.request.what === 'copy' ? job.request.target : job.request
  return await inWorker(`Copying ${domain}/${image}`, async remote => await remote.copy(job), job.settings, context)
}

/** Compares in a worker process of its own. Throws `signal.reason` when it was canceled. */
export async function verifyInWorker (job: VerifyJob, priority: Priority, context: CopyContext): Promise<VerifyResult> {
  return await inWorker(`Verifying ${job.image.domain}/${job.image.image}`, async remote => await remote.verify(job), priority, context)
}

/** Asks a worker what a copy would do. */
export async function previewInWorker (job: CopyJob): Promise<CopyPreview> {
  const worker = startWorker({ accepted: () => {}, progress: () => {}, measured: () => {} }, job.settings)
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
async function inWorker<T> (what: string, work: (remote: CopyWorkerFunctions) => Promise<Outcome<{ canceled: true } | { result: T }>>, priority: Priority, context: CopyContext): Promise<T> {
  const { signal, accepted, progress, measured = () => {}, onTuning } = context
  signal.throwIfAborted()
  const worker = startWorker({ accepted, progress, measured }, priority)
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

function startWorker (listener: Omit<CopyAgentFunctions, 'ready'>, { nice, ioPriority }: Priority): Worker {
  // what the worker starts inherits both
  const under = [...nice === 0 ? [] : ['nice', '-n', String(nice)], ...ioPriority === 'normal' ? [] : ['ionice', ...ioPriority === 'idle' ? ['-c', '3'] : ['-c', '2', '-n', '7']]]
  // what it says of itself goes on to every subscriber
  const progress = (progress: Progress) => { if (Value.Check(Progress, progress)) listener.progress(progress) }
  const measured = (measure: CopyMeasure) => { if (Value.Check(Measure, measure)) listener.measured(measure) }
  return new Child(new URL('storage/copy/main', programFolder), { accepted: () => { listener.accepted() }, progress, measured }, under)
}

/** Resolves after the time; never, without one. */
async function pause (ms: number | undefined): Promise<void> {
  await new Promise<void>(resolve => { if (ms !== undefined) setTimeout(resolve, ms).unref() })
}
