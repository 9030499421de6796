import { Type, type Static } from '@sinclair/typebox'
import { Bytes, Discriminated, Ref, Strict, Words } from './schema.ts'
import { DomainId, ImageName, VolumeId } from './names.ts'
import { Allocation, ClusterSize, Format } from './format.ts'
import { CommitRemoveBrick, ReplaceBrick, ReplaceBrickResult, ResetBrick, StartRemoveBrick, StartVolumeRebalance, StopRemoveBrick, StopVolumeRebalance, glusterKinds, CommitRemoveBrickResult, StartOperationResult, StopOperationResult } from './gluster-kinds.ts'

const Volume = Type.Optional(VolumeId)

export const Bandwidth = Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER, description: 'At most this many bytes per second.', examples: [104857600] })

export const CopyImage = Strict({
  kind: Type.Literal('storage.copyImage'),
  source: Strict({ domain: DomainId, image: ImageName, volume: Volume, format: Type.Optional(Format) }),
  target: Strict({
    domain: DomainId,
    image: ImageName,
    volume: Volume,
    generation: Type.Optional(Type.Integer({ minimum: 0, maximum: 999, description: 'In domains of the layout `ovirt`: the target is an existing, empty volume of this generation. Without it the volume is created.' })),
    format: Type.Optional(Format),
    allocation: Type.Optional(Allocation),
    clusterSize: Type.Optional(ClusterSize)
  }),
  chain: Type.Optional(Words(['flat', 'keep'], { default: 'flat', description: 'Between domains of the layout `ovirt`: `flat` makes one volume with the whole content; `keep` copies every volume of the chain, the base first, under the same names and with the same parents, each with its own data only. A base that is on the target already (LEGAL, of the same format and capacity, and not a leaf) is not copied again. With `generation`, every volume of the chain is there, empty and of that generation. Bytes are then those of the volumes\' files.' })),
  bandwidth: Type.Optional(Bandwidth),
  verify: Type.Optional(Type.Boolean({ default: false, description: 'Compare the complete copy with its source before it becomes visible.' })),
  onExisting: Type.Optional(Words(['refuse', 'replace'], { default: 'refuse', description: 'What to do when the target exists: refuse, or replace it when the copy is complete. Until then the old image stays good.' })),
  ignoreSpace: Type.Optional(Type.Boolean({ default: false, description: 'Begin although the copy looks too large for the free space of the domain, by what its source takes up on disk: zeros that are written out count there and are not copied, and space can be made meanwhile. Without it such a copy is refused with `no-space`. If space does run out, the copy fails with `no-space`, the image stays `interrupted`, and mendImage continues it.' })),
  refuseLoss: Type.Optional(Type.Boolean({ default: false, description: 'Refuse with `would-lose-data` when the copy would drop internal snapshots or persistent bitmaps of its source. Without it they are named in `dropped` of the dry run and the result. A chain that is kept drops nothing.' }))
}, {
  $id: 'CopyImage',
  description: 'Copies an image. Accepted when the target and its copy record are durable on the storage; from then on any host can continue it. Sent again, it continues an interrupted copy of the same, unchanged source, and succeeds at once when the copy is complete.',
  examples: [{
    kind: 'storage.copyImage',
    source: { domain: 'local', image: 'sample.raw' },
    target: { domain: 'local', image: 'copy.qcow2' },
    bandwidth: 104857600,
    verify: true
  }]
})
export type CopyImage = Static<typeof CopyImage>

export const MendImage = Strict({
  kind: Type.Literal('storage.mendImage'),
  domain: DomainId,
  image: ImageName,
  volume: Volume,
  bandwidth: Type.Optional(Bandwidth)
}, {
  $id: 'MendImage',
  description: 'Continues an interrupted copy from what is durable of it.',
  examples: [{ kind: 'storage.mendImage', domain: 'local', image: 'copy.qcow2' }]
})
export type MendImage = Static<typeof MendImage>

export const CreateImage = Strict({
  kind: Type.Literal('storage.createImage'),
  domain: DomainId,
  image: ImageName,
  volume: Volume,
  format: Type.Optional(Format),
  virtualSize: Bytes(
    'The size of the disk that a guest sees. Of a raw image, and in domains of the layout `ovirt`, it is rounded up to 4 KiB.',
    { multipleOf: 512 }
  ),
  allocation: Type.Optional(Allocation),
  clusterSize: Type.Optional(ClusterSize),
  description: Type.Optional(Type.String({ maxLength: 210, pattern: '^[^\\r\\n]*$', description: 'DESCRIPTION of the volume, in domains of the layout `ovirt`.' })),
  diskType: Type.Optional(Type.String({ pattern: '^[A-Za-z0-9_]{1,16}$', description: 'DISKTYPE of the volume, in domains of the layout `ovirt`; DATA unless given.' }))
}, {
  $id: 'CreateImage',
  description: 'Creates an empty image.',
  examples: [{ kind: 'storage.createImage', domain: 'local', image: 'disk.qcow2', virtualSize: 10737418240 }]
})
export type CreateImage = Static<typeof CreateImage>

/** What `fixes` offers for a state of today must do nothing to what is there tomorrow. */
const offeredFor = {
  copyId: Type.Optional(Type.String({
    pattern: '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$',
    description: 'Only the unfinished copy, creation or deletion of this `copyId`. If a copy was completed meanwhile, the answer ' +
      'is `already-complete`; if it is gone, or another one has its name, `copy-not-found`.'
  })),
  withoutCopy: Type.Optional(Type.Literal(true, {
    description: 'Only while nothing is there but what no readable record of an unfinished copy, creation or deletion explains. If ' +
      'there is a whole image by now, the answer is `already-complete`; if there is such a record, `image-interrupted`.'
  }))
}

export const DeleteImage = Strict({
  kind: Type.Literal('storage.deleteImage'),
  domain: DomainId,
  image: ImageName,
  volume: Volume,
  ...offeredFor
}, {
  $id: 'DeleteImage',
  description: 'Deletes an image, also an unfinished copy. In domains of the layout `ovirt`, one volume of it if that is given, and no volume that has children. Accepted when the intent is durable: from then on any host can finish it. Where a foreign file took the name of an unfinished copy, only the copy is removed.',
  examples: [{ kind: 'storage.deleteImage', domain: 'local', image: 'copy.qcow2' }]
})
export type DeleteImage = Static<typeof DeleteImage>

export const ForgetCopy = Strict({
  kind: Type.Literal('storage.forgetCopy'),
  domain: DomainId,
  image: ImageName,
  volume: Volume,
  ...offeredFor
}, {
  $id: 'ForgetCopy',
  description: 'Removes the copy record of an image and leaves the image as it is: for a record that cannot be read, or that means another file. Succeeds when there is no record. The record of an unfinished copy is kept (`image-interrupted`), and so is that of a newer agent (`record-newer`).',
  examples: [{ kind: 'storage.forgetCopy', domain: 'local', image: 'copy.qcow2' }]
})
export type ForgetCopy = Static<typeof ForgetCopy>

const Readable = { domain: DomainId, image: ImageName, volume: Volume, format: Type.Optional(Format) }

export const VerifyImage = Strict({
  kind: Type.Literal('storage.verifyImage'),
  ...Readable,
  against: Strict(Readable)
}, {
  $id: 'VerifyImage',
  description: 'Compares what a guest would see in two images. Succeeds whether they are identical or not: the result tells.',
  examples: [{ kind: 'storage.verifyImage', domain: 'local', image: 'copy.qcow2', against: { domain: 'local', image: 'sample.raw' } }]
})
export type VerifyImage = Static<typeof VerifyImage>

export const TaskSpec = Discriminated('kind', [CopyImage, MendImage, CreateImage, DeleteImage, ForgetCopy, VerifyImage, StartVolumeRebalance, StopVolumeRebalance, StartRemoveBrick, StopRemoveBrick, CommitRemoveBrick, ReplaceBrick, ResetBrick], {
  $id: 'TaskSpec',
  description: 'What a task is to do: the kind, and its parameters.'
})
export type TaskSpec = Static<typeof TaskSpec>
export type Kind = TaskSpec['kind']

export const kinds = ['storage.copyImage', 'storage.mendImage', 'storage.createImage', 'storage.deleteImage', 'storage.forgetCopy', 'storage.verifyImage', ...glusterKinds] as const satisfies readonly Kind[]

export const Dropped = Strict({
  snapshots: Type.Array(Type.String(), { description: 'Names of internal snapshots.' }),
  bitmaps: Type.Array(Type.String(), { description: 'Names of persistent dirty bitmaps. Incremental backups of the copy begin with a full one.' }),
  more: Type.Optional(Type.Integer({ minimum: 1, description: 'How many names are left out: of each kind 1000 are listed.' }))
}, { $id: 'Dropped', description: 'What the qcow2 files of a source have that is no part of the disk that a guest sees, and that a copy does not have. The same whether or not the file system can clone files.' })
export type Dropped = Static<typeof Dropped>

export const CopyResult = Strict({
  domain: DomainId,
  image: ImageName,
  volume: Volume,
  generation: Type.Optional(Type.Integer({ minimum: 0, maximum: 999, description: 'What GEN of the volume has become.' })),
  bytesTotal: Bytes('The virtual size of the copy; of a chain that was kept, the length of all the files that it copied.'),
  bytesCopied: Bytes('Bytes of the virtual disk that this run settled: copied, or found to be zero.'),
  bytesMoved: Bytes('Bytes of data that this run read and wrote.'),
  verified: Type.Optional(Type.Boolean()),
  cloned: Type.Optional(Type.Boolean({ description: 'The file system shares the data with the source: nothing was copied.' })),
  alreadyDone: Type.Optional(Type.Boolean({ description: 'The copy was complete before: nothing was copied.' })),
  dropped: Type.Optional(Ref(Dropped)),
  warnings: Type.Optional(Type.Array(Type.String(), {
    description: 'What may be wrong with the source: it looks like another format than the one it was read in, or a base was written after its overlay.'
  })),
  epoch: Type.Integer({ minimum: 1, description: 'How many runs the copy took.' })
}, { $id: 'CopyResult', description: 'What a copy has done.' })
export type CopyResult = Static<typeof CopyResult>

export const CreateResult = Strict({
  domain: DomainId,
  image: ImageName,
  volume: Volume,
  virtualSize: Type.Optional(Bytes('The size of the disk that a guest sees, as it was made.'))
}, { $id: 'CreateResult', description: 'What was created.' })
export type CreateResult = Static<typeof CreateResult>

export const DeleteResult = Strict({ domain: DomainId, image: ImageName, volume: Volume, bytesFreed: Bytes('Bytes that the storage got back.') }, { $id: 'DeleteResult', description: 'What was deleted.' })
export type DeleteResult = Static<typeof DeleteResult>

export const ForgetResult = Strict({
  domain: DomainId,
  image: ImageName,
  volume: Volume,
  forgotten: Type.Boolean({ description: 'There was a record, and it is gone.' })
}, { $id: 'ForgetResult', description: 'Whether a copy record was removed.' })
export type ForgetResult = Static<typeof ForgetResult>

export const VerifyResult = Strict({
  identical: Type.Boolean(),
  firstDifference: Type.Optional(Bytes('Where the first difference is, from the start of the disk.'))
}, { $id: 'VerifyResult', description: 'How two images compare.' })
export type VerifyResult = Static<typeof VerifyResult>

export const resultSchemas = [CopyResult, CreateResult, DeleteResult, ForgetResult, VerifyResult, StartOperationResult, StopOperationResult, CommitRemoveBrickResult, ReplaceBrickResult] as const
export const TaskResult = Type.Union(resultSchemas.map(schema => Ref(schema)), { description: 'What came of it; which one depends on the kind.' })
export type TaskResult = Static<(typeof resultSchemas)[number]>
