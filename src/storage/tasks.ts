import type { ImageState } from '../api/image.ts'
import type { CopyImage, CopyResult, CreateImage, CreateResult, DeleteImage, DeleteResult, MendImage } from '../api/kinds.ts'
import type { Progress } from '../api/task.ts'
import { AppError } from '../errors.ts'
import { copyInWorker } from './copying.ts'
import type { Domains } from './domains.ts'
import { sourceFormat, targetFormat } from './names.ts'
import type { CopyJob, CopySettings, Host } from './protocol.ts'

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
}

export interface StorageKinds {
  'storage.copyImage': StorageKind<CopyImage, CopyResult>
  'storage.mendImage': StorageKind<MendImage, CopyResult>
  'storage.createImage': StorageKind<CreateImage, CreateResult>
  'storage.deleteImage': StorageKind<DeleteImage, DeleteResult>
}

/** A change of an image that this agent made. */
export interface ImageNews {
  domain: string
  image: string
  state: ImageState | 'absent'
  taskId: string
  observedAt: string
}

const name = ({ domain, image }: { domain: string, image: string }) => `${domain}/${image}`

/**
 * The task bodies that work on images.
 *
 * @param tell told of every change that they make to an image, as the storage shows it afterwards.
 */
export function storageKinds (domains: Domains, host: Host, settings: CopySettings, tell: (news: ImageNews) => void): StorageKinds {
  const job = (taskId: string, request: CopyJob['request'], bandwidth: number | undefined): CopyJob =>
    ({ request, bandwidth: bandwidth ?? null, places: domains.places(), host, taskId, settings })
  const announce = async (domain: string, image: string, taskId: string) => {
    try {
      const { state, observedAt } = await domains.get(domain).image(image, undefined)
      tell({ domain, image, state, taskId, observedAt })
    } catch (error) {
      if (error instanceof AppError && error.code === 'image-not-found') tell({ domain, image, state: 'absent', taskId, observedAt: new Date().toISOString() })
      // otherwise nothing is known of it, and there is nothing to tell
    }
  }
  const copy = async ({ domain, image }: { domain: string, image: string }, work: CopyJob, context: Context) => {
    const target = domains.get(domain)
    let accepted = false
    try {
      return await copyInWorker(work, {
        ...context,
        accepted: () => {
          accepted = true
          target.changed()
          void announce(domain, image, context.id)
          context.accepted()
        }
      })
    } finally {
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
        targetFormat(target.image, target.format)
      },
      uses: ({ source, target }) => ({ shared: [name(source)], exclusive: [name(target)] }),
      run: async ({ source, target, verify, bandwidth }, context) => {
        domains.get(source.domain)
        return await copy(target, job(context.id, {
          what: 'copy',
          source: { ...source, format: sourceFormat(source.image, source.format) },
          target: { ...target, format: targetFormat(target.image, target.format), allocation: target.allocation ?? 'sparse' },
          verify: verify ?? false
        }, bandwidth), context)
      }
    },
    'storage.mendImage': {
      cancelable: true,
      tunable: true,
      queue: 'copy',
      check: () => {},
      uses: spec => ({ shared: [], exclusive: [name(spec)] }),
      run: async ({ domain, image, bandwidth }, context) =>
        await copy({ domain, image }, job(context.id, { what: 'mend', domain, image }, bandwidth), context)
    },
    'storage.createImage': {
      cancelable: false,
      tunable: false,
      check: ({ image, format }) => { targetFormat(image, format) },
      uses: spec => ({ shared: [], exclusive: [name(spec)] }),
      run: async ({ domain, image, format, virtualSize, allocation }, { id }) => {
        const result = await domains.get(domain).create({
          image, format: targetFormat(image, format), virtualSize, allocation: allocation ?? 'sparse', host, taskId: id
        })
        void announce(domain, image, id)
        return result
      }
    },
    'storage.deleteImage': {
      cancelable: false,
      tunable: false,
      check: () => {},
      uses: spec => ({ shared: [], exclusive: [name(spec)] }),
      run: async ({ domain, image }, { id, accepted }) => {
        const result = await domains.get(domain).delete({ image, host, taskId: id }, accepted)
        void announce(domain, image, id)
        return result
      }
    }
  }
}
