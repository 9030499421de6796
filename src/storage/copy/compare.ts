import type { VerifyResult } from '../../api/kinds.ts'
import { AppError } from '../../errors.ts'
import { statFd } from '../../system/directory.ts'
import type { CopyAgentFunctions, VerifyJob } from '../protocol.ts'
import { wordsOf, type CopyRecord } from '../record.ts'
import { compareDisks, diskOf } from './compare-disks.ts'
import { Pulse } from './pulse.ts'
import { probeSource, recordedFiles, sourceChanges, syncSource, type Source } from './source.ts'
import { takeSource } from './take-source.ts'

type Report = CopyAgentFunctions['progress']

/** Compares two sources as a guest sees them, of which nobody writes to one meanwhile. */
async function compareSources (
  a: Source, b: Source, { bytesTotal, signal, report }: { bytesTotal: number, signal: AbortSignal, report: Report }
): Promise<VerifyResult> {
  return await whileStill([a, b], async () => await compareDisks(diskOf(a), diskOf(b), { bytesTotal, signal, owner: a.owner, report }))
}

/** Compares two images under shared leases, so that nobody writes them meanwhile. */
export async function compareImages (job: VerifyJob, signal: AbortSignal, { accepted, progress }: Pick<CopyAgentFunctions, 'accepted' | 'progress'>): Promise<VerifyResult> {
  const image = await takeSource(job, job.image)
  const against = await takeSource(job, job.against)
  await probeSource(image)
  await probeSource(against)
  accepted()
  // an image in another format may be up to a sector longer
  const [shorter, longer] = [image.virtualSize, against.virtualSize].toSorted((a, b) => a - b)
  if (shorter !== undefined && longer !== undefined && longer - shorter >= 512) return { identical: false, firstDifference: shorter }
  const pulse = new Pulse([image.files[0].fd, against.files[0].fd], progress)
  try {
    return await compareSources(image, against, { bytesTotal: longer ?? 0, signal, report: pulse.report.bind(pulse) })
  } finally {
    pulse.stop()
  }
}

/** Looks at images that nobody writes meanwhile: what is found holds for all of them at once. Throws `source-changed`. */
async function whileStill<T> (sources: readonly Source[], look: () => Promise<T>): Promise<T> {
  const stats = async () => await Promise.all(sources.flatMap(({ files }) => files.map(async ({ fd }) => await statFd(fd))))
  for (const source of sources) await syncSource(source)
  const before = await stats()
  const result = await look()
  const after = await stats()
  for (const source of sources) {
    const { changed, touched } = await sourceChanges(source, recordedFiles(source))
    // who sets the time of modification back has touched it, too; what has another number of links was linked
    const isLinked = before.some(({ nlink }, index) => after[index]?.nlink !== nlink)
    const differs = isLinked ? changed : [...changed, ...touched]
    if (differs.length === 0) continue
    const image = wordsOf(source.files[0])
    throw new AppError('source-changed', `Image ${image} was written during the comparison (${differs.join(', ')}). Compare again when its writer is done.`, { members: { differs } })
  }
  return result
}

/**
 * Makes sure that a complete copy is still that of its source, of which only a comparison can tell whether it has changed.
 * Throws `target-exists`. The copy's lease is held.
 */
export async function confirm (job: Pick<VerifyJob, 'places'>, record: CopyRecord, source: Source, signal: AbortSignal, report: Report): Promise<void> {
  const { domain, image, volume, layer, format } = record
  const target = await takeSource(job, { domain, image, volume, ...(layer === undefined && { format }) }, { alone: layer !== undefined, held: true })
  const { identical } = await compareSources(target, source, { bytesTotal: record.virtualSize, signal, report })
  if (!identical) throw new AppError('target-exists', `${wordsOf(record)} in domain ${domain} is a complete copy of another state of the source. Delete it first, or choose another name.`, { members: { differs: ['the content'] } })
}
