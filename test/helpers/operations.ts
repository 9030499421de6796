import type { Operation } from '../../src/api/operation.ts'

/** A Gluster operation in wire form; only what a test is about needs to be given. */
export function operationOf (of: Partial<Operation> = {}): Operation {
  return {
    operationId: 'a25688b9-2795-412f-b56b-667b23486dc8',
    kind: 'rebalance',
    volume: 'images',
    state: 'running',
    nodes: [],
    totals: { files: 0, bytes: 0, scanned: 0, failures: 0, skipped: 0, runtimeSeconds: 0 },
    complete: true,
    missing: [],
    observedAt: '2026-01-01T00:00:00.000Z',
    ...of
  }
}
