import type { CopyResult } from '../api/kinds.ts'
import type { Progress } from '../api/task.ts'
import { Child } from './child.ts'
import type { CopyAgentFunctions, CopyJob, CopyWorkerFunctions } from './protocol.ts'

/** What a running copy needs of its task. */
interface CopyContext {
  signal: AbortSignal
  accepted (): void
  progress (progress: Progress): void
  onTuning (listener: (tuning: { bandwidth: number | null }) => void): void
}

/** How long the result waits for the worker to be gone, with its leases. Longer only where its storage hangs. */
const goneWithinMs = 2000

/**
 * Runs a copy in a worker process of its own and resolves with its result; throws `signal.reason` when it was
 * canceled. By then the leases are free, so that the next command on the image finds it free.
 */
export async function copyInWorker (job: CopyJob, { signal, accepted, progress, onTuning }: CopyContext): Promise<CopyResult> {
  signal.throwIfAborted()
  const worker = new Child<CopyWorkerFunctions, Omit<CopyAgentFunctions, 'ready'>>(new URL('./copy/main', import.meta.url), { accepted, progress })
  const cancel = () => { worker.tell(async remote => { await remote.cancel.asEvent() }) }
  signal.addEventListener('abort', cancel)
  try {
    const { target } = job.request.what === 'copy' ? job.request : { target: job.request }
    const ending = worker.call(`Copying ${target.domain}/${target.image}`, async remote => await remote.copy(job))
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

/** Resolves after the time; never, without one. */
async function pause (ms: number | undefined): Promise<void> {
  await new Promise<void>(resolve => { if (ms !== undefined) setTimeout(resolve, ms).unref() })
}
