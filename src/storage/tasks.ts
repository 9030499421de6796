import type { Format } from '../api/format.ts'
import type { ImageState } from '../api/image.ts'
import type { CopyImage, CopyResult, CreateImage, CreateResult, DeleteImage, DeleteResult, MendImage, VerifyImage, VerifyResult } from '../api/kinds.ts'
import type { Progress } from '../api/task.ts'
import { AppError } from '../errors.ts'
import { copyInWorker, previewInWorker, verifyInWorker } from './copying.ts'
import type { Domains } from './domains.ts'
import { sourceFormat, targetFormat } from './names.ts'
import type { CopyJob, CopyMeasure, CopyRequest, CopySettings, Host } from './protocol.ts'
import { Shares } from './shares.ts'

interface Uses { shared: readonly string[], exclusive: readonly string[] }

interface Context {
  id: string
  signal: AbortSignal
  accepted (): void
  progress (progress: Progress): void
  onTuning (listener: (tuning: { bandwidth: number | null }) => void): void
}

/** A kind of task; the registry has the full description of this shape. */
interface StorageKind<Spec, Result> {
  cancelable: boolean
  tunable: boolean
  queue?: string
  check (spec: Spec): void
  uses (spec: Spec): Uses
  run (spec: Spec, context: Context): Promise<Result>
  preview? (spec: Spec): Promise<object>
}

export interface StorageKinds {
  'storage.copyImage': StorageKind<CopyImage, CopyResult>
  'storage.mendImage': StorageKind<MendImage, CopyResult>
  'storage.createImage': StorageKind<CreateImage, CreateResult>
  'storage.deleteImage': StorageKind<DeleteImage, DeleteResult>
  'storage.verifyImage': StorageKind<VerifyImage, VerifyResult>
}

/** A change of an image that this agent made. */
export interface ImageNews {
  domain: string
  image: string
  state: ImageState | 'absent'
  taskId: string
  observedAt: string
}

/** Told of copies, by the domain they write to and their task, from the accept step to their end. */
export interface CopyObserver {
  copyBegan (domain: string, taskId: string): void
  copyMeasured (domain: string, taskId: string, measure: CopyMeasure): void
  copyEnded (taskId: string): void
}

const name = ({ domain, image }: { domain: string, image: string }) => `${domain}/${image}`

/**
 * The task bodies that work on images.
 *
 * @param tell told of every change that they make to an image, as the storage shows it afterwards.
 */
export function storageKinds (domains: Domains, host: Host, settings: CopySettings & { bandwidth?: number | undefined }, tell: (news: ImageNews) => void, observer?: CopyObserver): StorageKinds {
  const job = (taskId: string, request: CopyJob['request'], bandwidth: number | undefined): CopyJob =>
    ({ request, bandwidth: bandwidth ?? null, places: domains.places(), host, taskId, settings })
  /** By domain. A copy that does not know how fast its target is begins with small windows. */
  const rates = new Map<string, number>()
  const shares = new Shares({ host: settings.bandwidth, domains: domains.ceilings() })
  const announce = async (domain: string, image: string, taskId: string) => {
    try {
      const { state, observedAt } = await domains.get(domain).image(image, undefined)
      tell({ domain, image, state, taskId, observedAt })
    } catch (error) {
      if (error instanceof AppError && error.code === 'image-not-found') tell({ domain, image, state: 'absent', taskId, observedAt: new Date().toISOString() })
      // otherwise nothing is known of it, and there is nothing to tell
    }
  }
  const assertAnswer = async (...ids: string[]) => { await Promise.all(ids.map(async id => { await domains.get(id).assertAnswers() })) }
  /** The source of an interrupted copy is known to its record alone. What else is wrong with it, the worker finds out. */
  const assertMendable = async ({ domain, image }: MendImage) => {
    await assertAnswer(domain)
    const source = await domains.get(domain).image(image, undefined).then(({ copy }) => copy?.source?.domain, () => undefined)
    if (source !== undefined && domains.all().some(({ id }) => id === source)) await assertAnswer(source)
    return source
  }
  const copy = async ({ domain, image }: { domain: string, image: string }, source: string | undefined, work: CopyJob, context: Context) => {
    const target = domains.get(domain)
    let accepted = false
    let member: ReturnType<Shares['join']> | undefined
    try {
      const expectedBytesPerSecond = rates.get(domain)
      return await copyInWorker({ ...work, ...(expectedBytesPerSecond !== undefined && { expectedBytesPerSecond }) }, {
        ...context,
        progress: progress => {
          if (progress.bytesPerSecond !== undefined && progress.bandwidth === undefined) rates.set(domain, progress.bytesPerSecond)
          context.progress(progress)
        },
        measured: measure => { observer?.copyMeasured(domain, context.id, measure) },
        onTuning: tuned => {
          member = shares.join({ own: work.bandwidth, domains: [domain, ...(source === undefined ? [] : [source])] }, bandwidth => { tuned({ bandwidth }) })
          context.onTuning(({ bandwidth }) => member?.change({ own: bandwidth }))
        },
        accepted: () => {
          accepted = true
          observer?.copyBegan(domain, context.id)
          target.changed()
          void announce(domain, image, context.id)
          context.accepted()
        }
      })
    } finally {
      member?.leave()
      observer?.copyEnded(context.id)
      target.changed()
      if (accepted) void announce(domain, image, context.id)
    }
  }

  return {
    'storage.copyImage': {
      cancelable: true,
      tunable: true,
      queue: 'copy',
      check: ({ source, target }) => {
        if (name(source) === name(target)) throw new AppError('same-image', `Source and target are both ${name(source)}. Choose another target.`)
        sourceFormat(source.image, source.format)
        checkClusterSize(target.image, targetFormat(target.image, target.format), target.clusterSize)
      },
      uses: ({ source, target }) => ({ shared: [name(source)], exclusive: [name(target)] }),
      run: async (spec, context) => {
        await assertAnswer(spec.source.domain, spec.target.domain)
        return await copy(spec.target, spec.source.domain, job(context.id, copyRequest(spec), spec.bandwidth), context)
      },
      preview: async spec => {
        await assertAnswer(spec.source.domain, spec.target.domain)
        return await previewInWorker(job('dry-run', copyRequest(spec), spec.bandwidth))
      }
    },
    'storage.mendImage': {
      cancelable: true,
      tunable: true,
      queue: 'copy',
      check: () => {},
      uses: spec => ({ shared: [], exclusive: [name(spec)] }),
      run: async (spec, context) => {
        const source = await assertMendable(spec)
        const { domain, image, bandwidth } = spec
        return await copy({ domain, image }, source, job(context.id, { what: 'mend', domain, image }, bandwidth), context)
      },
      preview: async spec => {
        await assertMendable(spec)
        const { domain, image, bandwidth } = spec
        return await previewInWorker(job('dry-run', { what: 'mend', domain, image }, bandwidth))
      }
    },
    'storage.createImage': {
      cancelable: false,
      tunable: false,
      check: ({ image, format, clusterSize }) => { checkClusterSize(image, targetFormat(image, format), clusterSize) },
      uses: spec => ({ shared: [], exclusive: [name(spec)] }),
      run: async ({ domain, image, format, virtualSize, allocation, clusterSize }, { id }) => {
        await assertAnswer(domain)
        const result = await domains.get(domain).create({
          image, format: targetFormat(image, format), virtualSize, allocation: allocation ?? 'sparse', clusterSize, host, taskId: id
        })
        void announce(domain, image, id)
        return result
      },
      preview: async ({ domain, image, virtualSize }) => {
        const state = await domains.get(domain).image(image, undefined).then(({ state }) => state, absent)
        if (state !== 'absent') throw new AppError('image-exists', `There is an image ${image} in domain ${domain} (${state}). Delete it first, or choose another name.`)
        return { outcome: 'create', bytesTotal: virtualSize }
      }
    },
    'storage.deleteImage': {
      cancelable: false,
      tunable: false,
      check: () => {},
      uses: spec => ({ shared: [], exclusive: [name(spec)] }),
      run: async ({ domain, image }, { id, accepted }) => {
        await assertAnswer(domain)
        const result = await domains.get(domain).delete({ image, host, taskId: id }, accepted)
        void announce(domain, image, id)
        return result
      },
      preview: async ({ domain, image }) => {
        const { actualSize, state } = await domains.get(domain).image(image, undefined)
        return { outcome: 'delete', state, bytesToFree: actualSize }
      }
    },
    'storage.verifyImage': {
      cancelable: true,
      tunable: false,
      queue: 'copy',
      check: spec => {
        if (name(spec) === name(spec.against)) throw new AppError('same-image', `${name(spec)} is to be compared with itself. Choose another image.`)
        sourceFormat(spec.image, spec.format)
        sourceFormat(spec.against.image, spec.against.format)
      },
      uses: spec => ({ shared: [name(spec), name(spec.against)], exclusive: [] }),
      run: async ({ domain, image, format, against }, context) => {
        await assertAnswer(domain, against.domain)
        return await verifyInWorker({
          image: { domain, image, format: sourceFormat(image, format) },
          against: { ...against, format: sourceFormat(against.image, against.format) },
          places: domains.places()
        }, settings, context)
      }
    }
  }
}

function absent (error: unknown): 'absent' {
  if (error instanceof AppError && error.code === 'image-not-found') return 'absent'
  throw error
}

function checkClusterSize (image: string, format: Format, clusterSize: number | undefined): void {
  if (format === 'raw' && clusterSize !== undefined) throw new AppError('bad-request', `${image} is to be raw, and raw images have no clusters. Leave out "clusterSize", or choose qcow2.`)
}

function copyRequest ({ source, target, verify, onExisting, ignoreSpace }: CopyImage): CopyRequest {
  return {
    what: 'copy',
    source: { ...source, format: sourceFormat(source.image, source.format) },
    target: { ...target, format: targetFormat(target.image, target.format), allocation: target.allocation ?? 'sparse' },
    verify: verify ?? false,
    onExisting: onExisting ?? 'refuse',
    ignoreSpace: ignoreSpace ?? false
  }
}
