import type { CopyAgentFunctions } from '../../src/storage/protocol.ts'

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
