import type { CopyRecord } from '../../src/storage/record.ts'

/** A copy record as an interrupted copy leaves it; only what a test is about needs to be given. */
export function recordOf (of: Partial<CopyRecord> = {}): CopyRecord {
  return {
    version: 1,
    copyId: '0b6c0b0e-5a3f-4e0e-9f5e-2f6a3c1d4e5f',
    phase: 'copying',
    domain: 'local',
    image: 'copy.raw',
    format: 'raw',
    allocation: 'sparse',
    virtualSize: 4096,
    verify: false,
    source: {
      domain: 'local',
      virtualSize: 4096,
      files: [{ image: 'source.raw', format: 'raw', identity: { inode: '12', size: 4096, modified: '1', changed: '2' } }]
    },
    inode: '77',
    windowBytes: 1024,
    done: [[0, 1024]],
    begun: [[0, 2048]],
    bytesMoved: 1024,
    epoch: 1,
    host: { id: 'node1' },
    taskId: 'nightly',
    createdAt: '2026-01-01T00:00:00.000Z',
    checkpointAt: '2026-01-01T00:00:01.000Z',
    ...of
  }
}
