import type { Format } from '../api/format.ts'
import type { ImageState, ImageStatus } from '../api/image.ts'
import type { CopyImage, CopyResult, CreateImage, CreateResult, DeleteImage, DeleteResult, ForgetCopy, ForgetResult, MendImage, VerifyImage, VerifyResult } from '../api/kinds.ts'
import type { Progress } from '../api/task.ts'
import { AppError, Canceled } from '../errors.ts'
import { checkAddress, checkChain, readableFormat, writableFormat } from './addresses.ts'
import { copyInWorker, previewInWorker, verifyInWorker } from './copying.ts'
import type { Domains } from './domains.ts'
import { Previews } from './previews.ts'
import type { CopyJob, CopyMeasure, CopyRequest, CopySettings, Host, SpaceClaim, SpaceGrant } from './protocol.ts'
import { Shares } from './shares.ts'
import { SpaceLedger } from './space-ledger.ts'
import { Workers } from './workers.ts'

interface Uses { shared: readonly string[], exclusive: readonly string[] }

interface Context {
  id: string
  signal: AbortSignal
  accepting (): void
  accepted (): void
  progress (progress: Progress): void
  onTuning (listener: (tuning: { bandwidth: number | null }) => void): void
}

/** A kind of task; the registry has the full description of this shape. */
interface StorageKind<Spec, Result> {
  cancelable: boolean
  tunable: boolean
  queue?: string
  answers? (spec: Spec): Promise<void>
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
  'storage.forgetCopy': StorageKind<ForgetCopy, ForgetResult>
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
 * @param overdue told of a copy that the deadline of its accept step has stopped, when its process is gone.
 */
export function storageKinds (domains: Domains, host: Host, settings: CopySettings & { bandwidth?: number | undefined }, tell: (news: ImageNews) => void, observer?: CopyObserver, overdue: (taskId: string) => void = () => {}): StorageKinds {
  const job = (taskId: string, request: CopyJob['request'], bandwidth: number | undefined): CopyJob =>
    ({ request, bandwidth: bandwidth ?? null, places: domains.places(), host, taskId, settings })
  const workers = { plain: new Workers(settings), registered: new Workers(settings, true) }
  /** Those for work on these domains: sanlock must know a process that is to have its leases. */
  const workersFor = (...ids: Array<string | undefined>) => domains.haveSanlock(ids) ? workers.registered : workers.plain
  /** By domain. A copy that does not know how fast its target is begins with small windows. */
  const rates = new Map<string, number>()
  const ledger = new SpaceLedger()
  /** About what copies of other hosts still need. That it cannot be told does not refuse a copy: it will see when it gets there. */
  const elsewhere = async (domain: string, key?: string) => {
    const keys = [...ledger.keysIn(domain), ...key === undefined ? [] : [key]]
    return await domains.get(domain).copiesNeed({ hostId: host.id, keys }).catch(() => 0)
  }
  const beside = (claim: (claim: SpaceClaim) => SpaceGrant) => async (claimed: SpaceClaim) =>
    claim({ ...claimed, bytesElsewhere: await elsewhere(claimed.domain, claimed.key) })
  const shares = new Shares({ host: settings.bandwidth, get domains () { return domains.ceilings() } })
  const announce = async (domain: string, image: string, taskId: string) => {
    try {
      const { state, observedAt } = await domains.get(domain).image(image, undefined)
      tell({ domain, image, state, taskId, observedAt })
    } catch (error) {
      if (error instanceof AppError && error.code === 'image-not-found') tell({ domain, image, state: 'absent', taskId, observedAt: new Date().toISOString() })
      // otherwise nothing is known of it, and there is nothing to tell
    }
  }
  const explainDeath = async (error: unknown, ...ids: Array<string | undefined>) => {
    let told = error
    for (const id of new Set(ids)) if (id !== undefined && domains.haveSanlock([id])) told = await domains.get(id).explainDeath(told)
    return told
  }
  /** The source of an interrupted copy is known to its record alone. What else is wrong with it, the worker finds out. */
  const assertMendable = async ({ domain, image }: MendImage, waiting?: () => void) => {
    await domains.assertAnswer([domain], waiting)
    const source = await domains.get(domain).image(image, undefined).then(({ copy }) => copy?.source?.domain, () => undefined)
    if (source !== undefined && domains.all().some(({ id }) => id === source)) await domains.assertAnswer([source], waiting)
    return source
  }
  const copy = async ({ domain, image }: { domain: string, image: string }, source: string | undefined, work: CopyJob, context: Context) => {
    const target = domains.get(domain)
    let accepted = false
    let member: ReturnType<Shares['join']> | undefined
    const space = ledger.join()
    try {
      const expectedBytesPerSecond = rates.get(domain)
      return await copyInWorker(workersFor(domain, source), { ...work, ...(expectedBytesPerSecond !== undefined && { expectedBytesPerSecond }) }, {
        ...context,
        space: { ...space, claim: beside(space.claim) },
        progress: progress => {
          if (progress.bytesPerSecond !== undefined && progress.bandwidth === undefined) rates.set(domain, progress.bytesPerSecond)
          context.progress(progress)
        },
        onLocksRefused: listener => {
          const ends = domains.all().filter(({ id }) => id === domain || id === source).map(({ locks }) => locks.onRefusal(listener))
          return () => { for (const end of ends) end() }
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
    } catch (error) {
      throw await explainDeath(error, domain, source)
    } finally {
      space.leave()
      member?.leave()
      observer?.copyEnded(context.id)
      if (context.signal.aborted && !(context.signal.reason instanceof Canceled)) overdue(context.id)
      target.changed()
      if (accepted) void announce(domain, image, context.id)
    }
  }

  const previews = new Previews()
  const preview = async (domain: string, source: string | undefined, work: CopyJob) => await previews.run(`${domain} ${source}`, async () =>
    await previewInWorker(workersFor(domain, source), work, { claim: beside(claim => ledger.ask(claim)) }))

  return keepAttached(domains, {
    'storage.copyImage': {
      cancelable: true,
      tunable: true,
      queue: 'copy',
      check: spec => {
        const { source, target, onExisting } = spec
        if (name(source) === name(target)) throw new AppError('same-image', `Source and target are both ${name(source)}. Choose another target.`)
        readableFormat(domains.layoutOf(source.domain), source)
        const layout = domains.layoutOf(target.domain)
        if (spec.chain === 'keep') checkChain(spec, domains.layoutOf(source.domain), layout)
        else writableFormat(layout, target)
        if (layout === 'ovirt' && onExisting === 'replace') throw new AppError('not-supported', 'A volume is not replaced. Create another one, or delete it first.')
      },
      uses: ({ source, target }) => ({ shared: [name(source)], exclusive: [name(target)] }),
      run: async (spec, context) => {
        await domains.assertAnswer([spec.source.domain, spec.target.domain], context.accepting)
        return await copy(spec.target, spec.source.domain, job(context.id, copyRequest(domains, spec), spec.bandwidth), context)
      },
      preview: async spec => {
        await domains.assertAnswer([spec.source.domain, spec.target.domain])
        return await preview(spec.target.domain, spec.source.domain, job('dry-run', copyRequest(domains, spec), spec.bandwidth))
      }
    },
    'storage.mendImage': {
      cancelable: true,
      tunable: true,
      queue: 'copy',
      check: spec => { checkAddress(domains.layoutOf(spec.domain), spec) },
      uses: spec => ({ shared: [], exclusive: [name(spec)] }),
      answers: async spec => { await assertMendable(spec) },
      run: async (spec, context) => {
        const source = await assertMendable(spec, context.accepting)
        const release = domains.use(source === undefined ? [] : [source])
        const { domain, image, volume, bandwidth } = spec
        return await copy({ domain, image }, source, job(context.id, { what: 'mend', domain, image, volume }, bandwidth), context).finally(release)
      },
      preview: async spec => {
        const source = await assertMendable(spec)
        const { domain, image, volume, bandwidth } = spec
        return await preview(domain, source, job('dry-run', { what: 'mend', domain, image, volume }, bandwidth))
      }
    },
    'storage.createImage': {
      cancelable: false,
      tunable: false,
      check: spec => { writtenFormat(domains, spec) },
      uses: spec => ({ shared: [], exclusive: [name(spec)] }),
      run: async (spec, { id, accepting }) => {
        const { domain, image, volume, virtualSize, allocation, clusterSize, description, diskType } = spec
        await domains.assertAnswer([domain], accepting)
        const result = await domains.get(domain).create({
          image,
          volume,
          format: writtenFormat(domains, spec),
          virtualSize,
          allocation: allocation ?? 'sparse',
          clusterSize,
          description,
          diskType,
          bytesReserved: ledger.reservedIn(domain) + await elsewhere(domain),
          reserveBytes: settings.reserveBytes,
          host,
          taskId: id
        })
        void announce(domain, image, id)
        return result
      },
      preview: async spec => {
        const { domain, image, volume, virtualSize, allocation = 'sparse', clusterSize } = spec
        const state = await domains.get(domain).image(image, undefined).then(status => stateOf(status, volume), absent)
        if (state !== 'absent') throw new AppError('image-exists', `There is an image ${wordsOf(image, volume)} in domain ${domain} (${state}). Delete it first, or choose another name.`)
        const bytesReserved = ledger.reservedIn(domain) + await elsewhere(domain)
        const { reserveBytes } = settings
        const shape = { format: writtenFormat(domains, spec), allocation, virtualSize, clusterSize, bytesReserved, reserveBytes }
        return { outcome: 'create', bytesTotal: virtualSize, ...await domains.get(domain).creatable(shape) }
      }
    },
    'storage.deleteImage': {
      cancelable: false,
      tunable: false,
      check: spec => { checkAddress(domains.layoutOf(spec.domain), spec) },
      uses: spec => ({ shared: [], exclusive: [name(spec)] }),
      run: async ({ domain, image, volume, copyId, withoutCopy }, { id, accepting, accepted }) => {
        await domains.assertAnswer([domain], accepting)
        const result = await domains.get(domain).delete({ image, volume, copyId, withoutCopy, host, taskId: id }, accepted)
        void announce(domain, image, id)
        return result
      },
      preview: async ({ domain, image, volume }) => {
        const status = await domains.get(domain).image(image, undefined)
        const state = stateOf(status, volume)
        if (state === 'absent') throw new AppError('image-not-found', `There is no volume ${volume} in image ${image} of domain ${domain}.`)
        const bytesToFree = volume === undefined ? status.actualSize : status.volumes?.find(found => found.volume === volume)?.info?.truesize ?? 0
        return { outcome: 'delete', state, bytesToFree }
      }
    },
    'storage.forgetCopy': {
      cancelable: false,
      tunable: false,
      check: spec => { checkAddress(domains.layoutOf(spec.domain), spec) },
      uses: spec => ({ shared: [], exclusive: [name(spec)] }),
      run: async ({ domain, image, volume, copyId, withoutCopy }, { id }) => {
        await domains.assertAnswer([domain])
        const result = await domains.get(domain).forget({ image, volume, copyId, withoutCopy })
        void announce(domain, image, id)
        return result
      },
      preview: async ({ domain, image, volume }) => {
        const state = await domains.get(domain).image(image, undefined).then(status => stateOf(status, volume), absent)
        return { outcome: 'forget', state }
      }
    },
    'storage.verifyImage': {
      cancelable: true,
      tunable: false,
      queue: 'copy',
      check: spec => {
        if (name(spec) === name(spec.against)) throw new AppError('same-image', `${name(spec)} is to be compared with itself. Choose another image.`)
        readableFormat(domains.layoutOf(spec.domain), spec)
        readableFormat(domains.layoutOf(spec.against.domain), spec.against)
      },
      uses: spec => ({ shared: [name(spec), name(spec.against)], exclusive: [] }),
      run: async (spec, context) => {
        const { domain, image, volume, against } = spec
        const space = ledger.join()
        await domains.assertAnswer([domain, against.domain], context.accepting)
        return await verifyInWorker(workersFor(domain, against.domain), {
          image: { domain, image, volume, format: readableFormat(domains.layoutOf(domain), spec) },
          against: { ...against, format: readableFormat(domains.layoutOf(against.domain), against) },
          places: domains.places()
        }, { ...context, space: { ...space, claim: beside(space.claim) } }).catch(async (error: unknown) => { throw await explainDeath(error, domain, against.domain) }).finally(space.leave)
      }
    }
  })
}

const domainsOf = ({ shared, exclusive }: Uses): string[] => [...shared, ...exclusive].map(named => named.slice(0, named.indexOf('/')))

/** Keeps the domains of a task attached while it runs, and asks them whether they answer. */
function keepAttached (domains: Domains, kinds: StorageKinds): StorageKinds {
  const keep = <Spec, Result>(kind: StorageKind<Spec, Result>): StorageKind<Spec, Result> => ({
    ...kind,
    answers: kind.answers ?? (async spec => { await domains.assertAnswer(domainsOf(kind.uses(spec))) }),
    run: async (spec, context) => {
      const release = domains.use(domainsOf(kind.uses(spec)))
      try {
        return await kind.run(spec, context)
      } finally {
        release()
      }
    }
  })
  return {
    'storage.copyImage': keep(kinds['storage.copyImage']),
    'storage.mendImage': keep(kinds['storage.mendImage']),
    'storage.createImage': keep(kinds['storage.createImage']),
    'storage.deleteImage': keep(kinds['storage.deleteImage']),
    'storage.forgetCopy': keep(kinds['storage.forgetCopy']),
    'storage.verifyImage': keep(kinds['storage.verifyImage'])
  }
}

function absent (error: unknown): 'absent' {
  if (error instanceof AppError && error.code === 'image-not-found') return 'absent'
  throw error
}

/** The state of an image, or of the volume of it that is meant. */
function stateOf ({ state, volumes }: ImageStatus, volume: string | undefined): ImageState | 'absent' {
  if (volume === undefined) return state
  return volumes?.find(found => found.volume === volume)?.state ?? 'absent'
}

/** A new image has no source that could tell its format. */
function writtenFormat (domains: Domains, spec: CreateImage): Format {
  const format = writableFormat(domains.layoutOf(spec.domain), spec)
  if (format === undefined) throw new AppError('format-unknown', `The name of a volume does not tell its format. Give "format": "raw" or "qcow2" for ${wordsOf(spec.image, spec.volume)}.`)
  return format
}

const wordsOf = (image: string, volume: string | undefined) => volume === undefined ? image : `${image}/${volume}`

function copyRequest (domains: Domains, { source, target, chain = 'flat', verify, onExisting, ignoreSpace, refuseLoss }: CopyImage): CopyRequest {
  return {
    what: 'copy',
    source: { ...source, format: readableFormat(domains.layoutOf(source.domain), source) },
    target: { ...target, format: chain === 'keep' ? target.format : writableFormat(domains.layoutOf(target.domain), target), allocation: target.allocation ?? 'sparse' },
    chain,
    verify: verify ?? false,
    onExisting: onExisting ?? 'refuse',
    ignoreSpace: ignoreSpace ?? false,
    refuseLoss: refuseLoss ?? false
  }
}
