import { open, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { CopyRecord } from '../../src/storage/record.ts'
import type { Ranges } from '../../src/storage/ranges.ts'
import { MiB, sh } from './images.ts'

/** The copy record of an image as it stands on the storage. */
export async function recordIn (domain: string, image: string): Promise<CopyRecord> {
  return JSON.parse(await readFile(join(domain, `.vdsm-tasks/copies/${image}.json`), 'utf8')) as CopyRecord
}

/** Those of the ranges that a record calls done that are not what the source has there, as a guest would read them. */
export async function untrueRanges (domain: string, record: CopyRecord, source: string, scratch: string): Promise<Ranges> {
  const part = join(domain, '.vdsm-tasks/parts', record.copyId)
  if (record.phase === 'creating' || !(await readdir(join(domain, '.vdsm-tasks/parts'))).includes(record.copyId)) return []
  const disk = record.format === 'raw' ? part : join(scratch, record.copyId)
  if (disk !== part) await sh('qemu-img', 'convert', '-f', 'qcow2', '-O', 'raw', part, disk)
  const [is, should] = [await open(disk), await open(source)]
  try {
    const untrue: Array<[number, number]> = []
    for (const [start, end] of record.done) {
      // a piece at a time, so that it is seen which are wrong
      for (let at = start; at < end; at += MiB) {
        const length = Math.min(MiB, end - at)
        const [a, b] = [await bytes(is, at, length), await bytes(should, at, length)]
        if (!a.equals(b)) untrue.push([at, at + length])
      }
    }
    return untrue
  } finally {
    await is.close()
    await should.close()
    if (disk !== part) await rm(disk)
  }
}

/** What is there; zeros beyond the end, as a guest would read them of a disk that was rounded up. */
async function bytes (file: Awaited<ReturnType<typeof open>>, at: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length)
  await file.read(buffer, 0, length, at)
  return buffer
}
