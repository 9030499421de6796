import type { AcceptJob } from '../../src/storage/copy/accept.ts'
import type { CopyAgentFunctions, CopyJob } from '../../src/storage/protocol.ts'

/** An agent for a copy worker that takes note of nothing and has space for everything. */
export function copyAgent (functions: Partial<CopyAgentFunctions> = {}): Omit<CopyAgentFunctions, 'ready'> {
  return {
    accepting () {},
    accepted () {},
    progress () {},
    measured () {},
    claimSpace: async () => ({ granted: true, bytesReserved: 0 }),
    spaceSettled () {},
    ...functions
  }
}

/** A job as the accept step gets it. */
export function inWorker (job: CopyJob): AcceptJob {
  return { ...job, claim: copyAgent().claimSpace, signal: new AbortController().signal, accepting: () => {} }
}
