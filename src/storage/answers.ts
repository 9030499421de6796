import { Type, type Static, type TSchema } from '@sinclair/typebox'
import { Ajv, type ValidateFunction } from 'ajv'
import { LeaseStatus } from '../api/domain.ts'
import { CommitRemoveBrick, ReplaceBrick, ResetBrick, StartRemoveBrick, StartVolumeRebalance, StopRemoveBrick, StopVolumeRebalance } from '../api/gluster-kinds.ts'
import { BrokenImage, Copy, CopyProgress, Fix, ImageEntry, ImageStatus, Volume, VolumeInfo } from '../api/image.ts'
import { CopyImage, CopyResult, CreateImage, CreateResult, DeleteImage, DeleteResult, Dropped, ForgetCopy, ForgetResult, MendImage, TaskSpec, VerifyImage, VerifyResult } from '../api/kinds.ts'
import { uuidPattern } from '../api/names.ts'
import { Bytes, Ref, Strict, timePattern, Words } from '../api/schema.ts'
import { AppError } from '../errors.ts'
import { Failure, type Outcome } from './outcome.ts'
import { CopyRecord } from './record.ts'

// Children read what other hosts have written, and what they answer goes on to every caller and subscriber. Their own parsers
// refuse rubbish; this is for what gets past one of them: the agent passes on nothing that is not as documented.

/** Tells whether what a child has answered is what it was asked for. */
export interface Answer<T> {
  /** What is wrong with it; nothing, if it is right. */
  flaw (outcome: unknown): string | undefined
  /** Only for its type. */
  readonly of?: T
}

/** What the agent takes for an answer to each of its calls. */
export const answers = {
  prepared: answer(Strict({ sampleMade: Type.Boolean() })),
  description: answer(Strict({ bytesTotal: Bytes(''), bytesFree: Bytes(''), local: Type.Boolean(), warnings: Type.Optional(Type.Array(Type.String())), leases: Type.Optional(LeaseStatus) })),
  images: answer(Type.Array(Ref(ImageEntry))),
  image: answer(Ref(ImageStatus)),
  copies: answer(Type.Array(Ref(Copy))),
  fixes: answer(Type.Array(Ref(BrokenImage))),
  neededSources: answer(Type.Array(Type.Union([CopyRecord.properties.source, Type.Null()]))),
  sourceStates: answer(Type.Array(Strict({ state: Words(['same', 'changed', 'gone']), what: Type.Optional(Type.String()) }))),
  swept: answer(Strict({ parts: Type.Array(Type.String()), records: Type.Integer({ minimum: 0 }), leases: Type.Integer({ minimum: 0 }) })),
  bytes: answer(Bytes('')),
  creatable: answer(Strict({ bytesFree: Bytes(''), bytesNeeded: Bytes(''), bytesReserved: Bytes('') })),
  created: answer(Ref(CreateResult)),
  deleted: answer(Ref(DeleteResult)),
  forgotten: answer(Ref(ForgetResult)),
  copied: answer(endOf(CopyResult)),
  verified: answer(endOf(VerifyResult)),
  preview: answer(Strict({
    outcome: Words(['copy', 'replace', 'continue', 'finish', 'already-done']),
    bytesTotal: Bytes(''),
    bytesDone: Type.Optional(Bytes('')),
    bytesNeeded: Type.Optional(Bytes('')),
    bytesFree: Type.Optional(Bytes('')),
    bytesReserved: Type.Optional(Bytes('')),
    bytesToMove: Type.Optional(Bytes('')),
    dropped: Type.Optional(Ref(Dropped)),
    warnings: Type.Optional(Type.Array(Type.String()))
  })),
  domains: answer(Type.Array(Type.String({ pattern: uuidPattern })))
} as const

/** The result in an outcome, or its error thrown. Throws `internal` when it is neither. */
export function resultOf<T> (outcome: Outcome<T>, what: string, answer: Answer<T>): T {
  const flaw = answer.flaw(outcome)
  if (flaw !== undefined) throw new AppError('internal', `${what}: the process that works on the storage gave an answer that cannot be used. The log of the agent tells more.`, { cause: new Error(flaw), changed: true })
  if ('ok' in outcome) return outcome.ok
  const { code, detail, members, changed } = outcome.error
  throw new AppError(code, detail, { members, changed })
}

function endOf<T extends TSchema> (result: T) {
  return Type.Union([Strict({ canceled: Type.Literal(true) }), Strict({ result: Ref(result) })])
}

let ajv: Ajv | undefined

/** Compiled when it is needed: it would be a part of what the agent's start takes. */
function answer<T extends TSchema> (schema: T): Answer<Static<T>> {
  let check: ValidateFunction | undefined
  return {
    flaw: outcome => {
      ajv ??= makeAjv()
      check ??= ajv.compile(Type.Union([Strict({ error: Failure }), Strict({ ok: schema })]))
      return check(outcome) ? undefined : ajv.errorsText(check.errors, { dataVar: 'outcome' })
    }
  }
}

function makeAjv (): Ajv {
  // the schemas themselves are checked by a test
  const ajv = new Ajv({ discriminator: true, strict: false, validateSchema: false })
  ajv.addFormat('date-time', timePattern)
  ajv.addSchema([
    ImageEntry, ImageStatus, Volume, VolumeInfo, Copy, CopyProgress, BrokenImage, Fix, CreateResult, DeleteResult, CopyResult, Dropped, VerifyResult, TaskSpec, CopyImage, MendImage, CreateImage,
    DeleteImage, ForgetCopy, ForgetResult, VerifyImage, StartVolumeRebalance, StopVolumeRebalance, StartRemoveBrick, StopRemoveBrick, CommitRemoveBrick, ReplaceBrick, ResetBrick
  ])
  return ajv
}
