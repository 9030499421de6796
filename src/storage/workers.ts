import { Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { Progress } from '../api/task.ts'
import { Bytes, Strict } from '../api/schema.ts'
import { programFolder } from '../location.ts'
import { Child } from './child.ts'
import type { CopyAgentFunctions, CopySettings, CopyWorkerFunctions } from './protocol.ts'

/** What a worker tells of its copy. */
export type WorkerListener = Omit<CopyAgentFunctions, 'ready'>
export type Worker = Child<CopyWorkerFunctions, WorkerListener>

interface Started {
  process: Worker
  /** Whoever it works for. */
  listener?: WorkerListener
}

const Measure = Type.Record(Type.String(), Type.Number())
const Claim = Strict({
  domain: Type.String(), device: Type.String(), key: Type.String(), bytesNeeded: Bytes(''), bytesFree: Bytes(''), force: Type.Boolean()
})

/** How long a worker is kept for the next copy. It takes up some 40 MiB meanwhile. */
const spareMs = 60_000

/**
 * The worker processes: each does one copy and is gone with its leases. To start one takes longer than to copy a small
 * image (npm run bench -- copy --cases small), so while copies come and go, the next one stands ready.
 */
export class Workers {
  readonly #under: readonly string[]
  readonly #registered: boolean
  #spare: Started | undefined
  #retiring: NodeJS.Timeout | undefined

  /** @param registered sanlock is to know them. */
  constructor ({ nice, ioPriority }: Pick<CopySettings, 'nice' | 'ioPriority'>, registered = false) {
    this.#registered = registered
    // what the worker starts inherits both
    this.#under = [...nice === 0 ? [] : ['nice', '-n', String(nice)], ...ioPriority === 'normal' ? [] : ['ionice', ...ioPriority === 'idle' ? ['-c', '3'] : ['-c', '2', '-n', '7']]]
  }

  /** A worker that has done nothing yet. */
  take (listener: WorkerListener): Worker {
    const worker = this.#spare?.process.alive === true ? this.#spare : this.#start()
    this.#spare = undefined
    clearTimeout(this.#retiring)
    worker.listener = listener
    worker.process.ref()
    return worker.process
  }

  /** Has a worker ready for a copy that may come soon. */
  prepare (): void {
    clearTimeout(this.#retiring)
    if (this.#spare?.process.alive !== true) this.#spare = this.#start()
    const { process } = this.#spare
    // nobody is kept from ending by a process that waits
    process.unref()
    this.#retiring = setTimeout(() => {
      this.#spare = undefined
      process.end()
    }, spareMs).unref()
  }

  #start (): Started {
    const started: { listener?: WorkerListener } = {}
    const process = new Child<CopyWorkerFunctions, WorkerListener>(new URL('storage/copy/main', programFolder), {
      accepting: () => { started.listener?.accepting() },
      accepted: () => { started.listener?.accepted() },
      // what it says of itself goes on to every subscriber
      progress: progress => { if (Value.Check(Progress, progress)) started.listener?.progress(progress) },
      measured: measure => { if (Value.Check(Measure, measure)) started.listener?.measured(measure) },
      claimSpace: async claim => {
        if (!Value.Check(Claim, claim) || started.listener === undefined) throw new Error('a worker claims space that cannot be understood')
        return await started.listener.claimSpace(claim)
      },
      spaceSettled: (key, bytes) => {
        if (typeof key === 'string' && Number.isSafeInteger(bytes) && bytes >= 0) started.listener?.spaceSettled(key, bytes)
      }
    }, { under: this.#under, registered: this.#registered })
    return Object.assign(started, { process })
  }
}
