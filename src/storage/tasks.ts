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

const name = ({ domain, image }: { domain: string, image: string }) => `${domain}/${image}`

/** The task bodies that work on images. */
export function storageKinds (domains: Domains, host: Host, settings: CopySettings): StorageKinds {
  const job = (taskId: string, request: CopyJob['request'], bandwidth: number | undefined): CopyJob =>
    ({ request, bandwidth: bandwidth ?? null, places: domains.places(), host, taskId, settings })
  const copy = async (target: { domain: string }, work: CopyJob, context: Context) => {
    const domain = domains.get(target.domain)
    try {
      return await copyInWorker(work, { ...context, accepted: () => { domain.changed(); context.accepted() } })
    } finally {
      domain.changed()
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
          verify
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
        await copy({ domain }, job(context.id, { what: 'mend', domain, image }, bandwidth), context)
    },
    'storage.createImage': {
      cancelable: false,
      tunable: false,
      check: ({ image, format }) => { targetFormat(image, format) },
      uses: spec => ({ shared: [], exclusive: [name(spec)] }),
      run: async ({ domain, image, format, virtualSize, allocation }, { id }) => await domains.get(domain).create({
        image, format: targetFormat(image, format), virtualSize, allocation: allocation ?? 'sparse', host, taskId: id
      })
    },
    'storage.deleteImage': {
      cancelable: false,
      tunable: false,
      check: () => {},
      uses: spec => ({ shared: [], exclusive: [name(spec)] }),
      run: async ({ domain, image }, { id, accepted }) => await domains.get(domain).delete({ image, host, taskId: id }, accepted)
    }
  }
}
