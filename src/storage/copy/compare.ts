import type { VerifyResult } from '../../api/kinds.ts'
import { AppError } from '../../errors.ts'
import { compareCommand, parseDifference, parsePercentage } from '../../qemu/commands.ts'
import type { NodeFile } from '../../qemu/node.ts'
import { runQemu } from '../../qemu/run.ts'
import { CommandError } from '../../system/run.ts'
import { explain } from '../failure.ts'
import { statFd, type Owner } from '../../system/directory.ts'
import type { CopyAgentFunctions, VerifyJob } from '../protocol.ts'
import { wordsOf, type CopyRecord } from '../record.ts'
import { Pulse } from './pulse.ts'
import { probeSource, recordedFiles, sourceChanges, sourceFds, sourceNodes, syncSource, type Source } from './source.ts'
import { takeSource } from './take-source.ts'

type Chain = readonly [NodeFile, ...NodeFile[]]

/**
 * Compares two disks as a guest sees them; bytes that one has beyond the end of the other are equal if they are zero.
 *
 * @param bytesTotal what the percentages that are reported are of.
 */
export async function compare (a: Chain, b: Chain, fds: readonly number[], { signal, owner, bytesTotal, report }: {
  signal: AbortSignal
  owner: Owner | undefined
  bytesTotal: number
  report: CopyAgentFunctions['progress']
}): Promise<VerifyResult> {
  const tell = (percent: number) => { report({ phase: 'verifying', bytesTotal, bytesDone: Math.floor(bytesTotal * percent / 100) }) }
  let printed = ''
  tell(0)
  const ended = await runQemu(compareCommand(a, b), {
    fds,
    owner,
    workBytes: bytesTotal,
    signal,
    onStdout: text => {
      // the verdict is the last thing it prints
      printed = (printed + text).slice(-1000)
      const percent = parsePercentage(text)
      if (percent !== undefined) tell(percent)
    }
  })
  signal.throwIfAborted()
  if (ended.exitCode === 0) return { identical: true }
  if (ended.exitCode !== 1) throw explain(new CommandError('qemu-img compare failed', ended), 'The images could not be compared')
  const firstDifference = parseDifference(printed)
  return { identical: false, ...(firstDifference !== undefined && { firstDifference }) }
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
    return await whileStill([image, against], async () => await compare(sourceNodes(image, 3), sourceNodes(against, 3 + image.files.length), [...sourceFds(image), ...sourceFds(against)], {
      signal, owner: image.owner, bytesTotal: longer ?? 0, report: pulse.report.bind(pulse)
    }))
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
export async function confirm (job: Pick<VerifyJob, 'places'>, record: CopyRecord, source: Source, signal: AbortSignal, report: CopyAgentFunctions['progress']): Promise<void> {
  const { domain, image, volume, layer, format } = record
  const target = await takeSource(job, { domain, image, volume, ...(layer === undefined && { format }) }, { alone: layer !== undefined, held: true })
  const { identical } = await whileStill([target, source], async () => await compare(sourceNodes(target, 3), sourceNodes(source, 3 + target.files.length), [...sourceFds(target), ...sourceFds(source)], { signal, owner: target.owner, bytesTotal: record.virtualSize, report }))
  if (!identical) throw new AppError('target-exists', `${wordsOf(record)} in domain ${domain} is a complete copy of another state of the source. Delete it first, or choose another name.`, { members: { differs: ['the content'] } })
}
