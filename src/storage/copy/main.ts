import process from 'node:process'
import { AppError } from '../../errors.ts'
import { openChannel } from '../channel.ts'
import { findRegistration } from '../../system/registration.ts'
import { outcomeOf } from '../outcome.ts'
import type { CopyAgentFunctions, CopyJob, CopyWorkerFunctions } from '../protocol.ts'
import { CopyWorker } from './worker.ts'

// The copy worker: one process, one copy or comparison. It holds the leases, so its life is theirs.

findRegistration()

// who writes beyond `ulimit -f` gets this signal, and only then an error to tell of
process.on('SIGXFSZ', () => {})

const unexpected = (error: unknown) => { console.error(error) }
const nameOf = ({ request }: CopyJob) => request.what === 'copy' ? request.target.image : request.image
const workerFunctions: CopyWorkerFunctions = {
  copy: async job => await outcomeOf(`Copying ${nameOf(job)}`, async () => await worker.copy(job), unexpected),
  preview: async job => await outcomeOf(`Copying ${nameOf(job)}`, async () => await worker.preview(job), unexpected),
  verify: async job => await outcomeOf(`Verifying ${job.image.image}`, async () => await worker.verify(job), unexpected),
  stop: why => { worker.stop(why) },
  fence: ({ code, detail }) => { worker.fence(new AppError(code, detail, { changed: true })) },
  setBandwidth: bandwidth => { worker.setBandwidth(bandwidth) }
}
const agent = openChannel<CopyAgentFunctions, CopyWorkerFunctions>(process, workerFunctions)
const worker = new CopyWorker({
  accepting: () => { agent.accepting.asEvent() },
  accepted: () => { agent.accepted.asEvent() },
  progress: progress => { agent.progress.asEvent(progress) },
  measured: measure => { agent.measured.asEvent(measure) },
  claimSpace: async claim => await agent.claimSpace(claim),
  spaceSettled: (key, bytes) => { agent.spaceSettled.asEvent(key, bytes) }
})

// SIGKILL, because exit() waits for threads that are blocked in a dead file system
process.on('disconnect', () => { process.kill(process.pid, 'SIGKILL') })

agent.ready.asEvent()
