import process from 'node:process'
import { openChannel } from '../channel.ts'
import { outcomeOf } from '../outcome.ts'
import type { CopyAgentFunctions, CopyWorkerFunctions } from '../protocol.ts'
import { CopyWorker } from './worker.ts'

// The copy worker: one process, one copy. It holds the leases, so its life is theirs.

const unexpected = (error: unknown) => { console.error(error) }
const workerFunctions: CopyWorkerFunctions = {
  copy: async job => await outcomeOf(`Copying ${job.request.what === 'copy' ? job.request.target.image : job.request.image}`, async () => await worker.copy(job), unexpected),
  cancel: () => { worker.cancel() },
  setBandwidth: bandwidth => { worker.setBandwidth(bandwidth) }
}
const agent = openChannel<CopyAgentFunctions, CopyWorkerFunctions>(process, workerFunctions)
const worker = new CopyWorker({
  accepted: () => { agent.accepted.asEvent() },
  progress: progress => { agent.progress.asEvent(progress) }
})

// SIGKILL, because exit() waits for threads that are blocked in a dead file system
process.on('disconnect', () => { process.kill(process.pid, 'SIGKILL') })

agent.ready.asEvent()
