import { setTimeout as sleep } from 'node:timers/promises'
import { AppError } from '../../errors.ts'
import { convertCommand, hugeBuffers, type CacheMode } from '../../qemu/commands.ts'
import { classifyFailure, failureLine, type Failed } from '../../qemu/failure.ts'
import { runQemu } from '../../qemu/run.ts'
import type { CopyRecord } from '../record.ts'
import { assertHeaders } from './headers.ts'
import { layerFds, layerNodes } from './layers.ts'
import type { Session } from './session.ts'
import type { CopyWindow } from './windows.ts'

const maxTries = 20
const clashPauseMs = 100

interface ConvertOptions {
  /** Write past the page cache. */
  direct: boolean
  /** How many windows of the target are written at the same time. */
  lanes: number
  bytesPerSecond: number | undefined
}

/** Copies one window by a qemu-img of its own, which is gone when this settles. Throws the signal's reason when it is aborted. */
export async function convertWindow (session: Session, window: CopyWindow, { direct, lanes, bytesPerSecond }: ConvertOptions, signal: AbortSignal): Promise<void> {
  const { source, lease, part, record, area } = session
  const command = (nativeAio: boolean) => convertCommand(layerNodes(source, window.layers, 5), { fd: 4, format: record.format }, {
    offset: window.start,
    // qemu copies whole sectors; a raw target is cut to its exact size at the end. A target may be larger than its source
    length: Math.ceil((Math.min(window.end, source.virtualSize) - window.start) / 512) * 512,
    targetIsZero: window.fresh
  }, {
    cache: cacheOf(record, direct || !area.local),
    direct,
    nativeAio,
    preallocated: record.allocation === 'preallocated',
    // A qemu-img that was cut off or stood still must not write when it comes back. GlusterFS with strict locks sees to
    // that, but only for files that are locked: the others it opens anew behind their users' backs (shown by a test).
    locking: !area.local,
    writeZeros: !area.local && (record.format === 'qcow2' || record.allocation === 'preallocated'),
    bytesPerSecond
  })
  let nativeAio = direct
  for (let tries = 1; ; tries++) {
    await assertHeaders(session)
    const ended = await runQemu(command(nativeAio), {
      fds: [lease.fd, part.fd, ...layerFds(source, window.layers)],
      writes: [4],
      owner: area.owner,
      workBytes: window.end - window.start,
      maxOutput: 0,
      signal,
      paced: bytesPerSecond !== undefined,
      ...(direct && { env: hugeBuffers })
    })
    // killed by our own signal: the reason is told by whoever aborted
    signal.throwIfAborted()
    if (ended.exitCode === 0) return
    // after a cut, qemu-img says all sorts of things
    await session.assertOwnership()
    await assertHeaders(session)
    const failure = classifyFailure(ended)
    if (failure === 'no-aio' && nativeAio) {
      nativeAio = false
      continue
    }
    // two lanes have opened the target at the same instant, and qemu's lock let only one: nothing was written
    const mayClash = !area.local && lanes > 1 && tries < maxTries && failure === 'in-use'
    if (!mayClash) throw copyFailure(record.image, ended)
    await sleep(clashPauseMs * (0.5 + Math.random()), undefined, { signal }).catch(() => { signal.throwIfAborted() })
  }
}

/**
 * Raw has no metadata to put in order: our own flush is all it needs. qcow2 has, so its cache is never unsafe; on a
 * shared file system late write-back of a killed run could even overwrite its successor's metadata.
 */
function cacheOf ({ format }: CopyRecord, isBypassed: boolean): CacheMode {
  if (format === 'raw') return 'unsafe'
  return isBypassed ? 'none' : 'writeback'
}

function copyFailure (image: string, ended: Failed): AppError {
  const words = failureLine(ended)
  switch (classifyFailure(ended)) {
    case 'no-space':
      return new AppError('no-space', `There is no space left to copy ${image}. Make space, then mend the image: what is done of it is kept.`)
    case 'too-large':
      return new AppError('file-too-large', `The storage cannot have a file as large as ${image} becomes: ${words}. Choose another domain, or qcow2.`)
    case 'cut-off':
      return new AppError('lease-lost', `The connection to the storage of ${image} was lost, and with it the lease: ${words}. What is done of it is kept; mend the image.`)
    case 'in-use':
      return new AppError('source-in-use', `Another program has opened the source or the target of ${image}: ${words}`)
    case 'storage':
      return new AppError('storage-failed', `The storage failed under ${image}: ${words}. What is done of it is kept; mend the image when the storage is well.`)
    case 'no-memory':
      return new AppError('out-of-memory', `The host has too little memory to copy ${image}: ${words}. What is done of it is kept; mend the image.`)
    case 'no-aio':
    case 'killed':
    case 'other':
      return new AppError('copy-failed', `qemu-img failed on ${image}: ${words}. What is done of it is kept; mend the image to try again.`)
  }
}
