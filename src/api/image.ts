import { Type, type Static } from '@sinclair/typebox'
import { Bytes, Ref, Strict, Time, Words } from './schema.ts'
import { DomainId, ImageName, TaskId, VolumeId } from './names.ts'
import { Format } from './format.ts'
import { TaskSpec } from './kinds.ts'

export const ImageState = Words(['ok', 'copying', 'interrupted', 'illegal'], {
  description: '`ok`; `copying`: some host is writing it now; `interrupted`: a copy that nobody is working on, to be ' +
    'mended or deleted; `illegal`: not to be used, see `detail` and `fixes`. Also an image that is damaged, cut off, ' +
    'or whose backing file is missing.'
})
export type ImageState = Static<typeof ImageState>

export const ImageRef = Strict({ domain: DomainId, image: ImageName, volume: Type.Optional(VolumeId) }, { description: 'An image.' })
export type ImageRef = Static<typeof ImageRef>

/** What the copy record on the storage says, the same from every host. */
export const CopyProgress = Strict({
  copyId: Type.String({ description: 'Names this copy for ever; a new copy to the same name has another.' }),
  phase: Words(['creating', 'copying', 'finishing', 'done', 'deleting'], { description: 'How far the record says the copy is.' }),
  source: Type.Optional(ImageRef),
  host: Strict({ id: Type.String(), url: Type.Optional(Type.String()) }, { description: 'The host that wrote the record last.' }),
  taskId: Type.Optional(TaskId),
  bytesTotal: Bytes('The virtual size; of a chain that is kept, the length of all the files that it copies.'),
  bytesDone: Bytes('How many of them are durable on the target.'),
  bytesPerSecond: Type.Optional(Bytes('How fast data was moved lately.')),
  createdAt: Time('When the copy was accepted.'),
  checkpointAt: Time('When the record was last written, by the clock of that host. For people: nothing decides by it.'),
  completedAt: Type.Optional(Time('When the copy was complete.')),
  canceledAt: Type.Optional(Time('When somebody canceled it. It is continued only when somebody asks for that.')),
  verified: Type.Optional(Type.Boolean({ description: 'The complete copy was compared with its source.' })),
  epoch: Type.Integer({ minimum: 1, description: 'Counts the runs of this copy: each continuation adds one.' })
}, { $id: 'CopyProgress', description: 'A copy as its record on the storage tells it.' })
export type CopyProgress = Static<typeof CopyProgress>

export const Copy = Strict({
  domain: DomainId,
  image: ImageName,
  volume: Type.Optional(VolumeId),
  state: Words(['copying', 'interrupted', 'done', 'illegal']),
  copy: Ref(CopyProgress)
}, { $id: 'Copy', description: 'A copy record and whether somebody is working on it.' })
export type Copy = Static<typeof Copy>

/** A way out of a broken state: what it means, and the body of the task that does it. */
export const Fix = Strict({
  action: Words(['mend', 'clean'], { description: '`mend` makes good what was left: it finishes what was begun, or forgets a record that says nothing about the image. `clean` removes what was left.' }),
  description: Type.String(),
  task: Ref(TaskSpec)
}, { $id: 'Fix', description: 'A way out of a broken state: what it means, and the task body to send with PUT /tasks/{id}.' })
export type Fix = Static<typeof Fix>

/** The names and words are those of vdsm's Volume.getInfo; numbers are numbers. */
export const VolumeInfo = Strict({
  uuid: VolumeId,
  domain: Type.String({ description: 'DOMAIN.' }),
  image: Type.String({ description: 'IMAGE. Another image than the one that the volume is read in: it is a volume of that template, shared by hard link.' }),
  pool: Type.String({ description: 'Always empty: format V5 has no such key.' }),
  parent: Type.String({ description: 'PUUID; the zero UUID if it has none.' }),
  children: Type.Array(VolumeId, { description: 'Volumes of the same image that have it as parent.' }),
  format: Words(['RAW', 'COW']),
  type: Words(['SPARSE', 'PREALLOCATED']),
  voltype: Words(['LEAF', 'INTERNAL', 'SHARED']),
  disktype: Type.String(),
  description: Type.String(),
  legality: Words(['LEGAL', 'ILLEGAL', 'FAKE']),
  status: Words(['OK', 'ILLEGAL', 'INVALID'], { description: '`INVALID`: its data is missing.' }),
  generation: Type.Integer({ description: 'GEN: counts the changes, 0 to 999, and wraps.' }),
  sequence: Type.Integer({ description: 'SEQ.' }),
  ctime: Type.Integer({ description: 'CTIME: seconds since 1970.' }),
  mtime: Type.Integer({ description: 'Always 0: format V5 has no such key.' }),
  capacity: Bytes('CAP: the size of the disk that a guest sees.'),
  apparentsize: Bytes('The length of the file.'),
  truesize: Bytes('Bytes that the file takes up on the storage.'),
  lease: Type.Optional(Strict({ path: Type.String(), offset: Type.Integer() }, { description: 'Where the sanlock lease of the volume is; absent when there is no such file.' }))
}, { $id: 'VolumeInfo', description: 'What vdsm tells of a volume.' })
export type VolumeInfo = Static<typeof VolumeInfo>

export const Volume = Strict({
  volume: VolumeId,
  state: ImageState,
  detail: Type.Optional(Type.String({ description: 'Why the volume is not `ok`, in words.' })),
  info: Type.Optional(Ref(VolumeInfo)),
  copy: Type.Optional(Ref(CopyProgress)),
  fixes: Type.Array(Ref(Fix))
}, { $id: 'Volume', description: 'A volume of an image in a domain of the layout `ovirt`. Without `info` its metadata is missing or cannot be used.' })
export type Volume = Static<typeof Volume>

export const ImageStatus = Strict({
  domain: DomainId,
  image: ImageName,
  state: ImageState,
  format: Type.Optional(Format),
  virtualSize: Type.Optional(Bytes('The size of the disk that a guest sees.')),
  actualSize: Bytes('Bytes that the image takes up on the storage.'),
  detail: Type.Optional(Type.String({
    description: 'Why the image is not `ok`, in words: what was interrupted, which backing file is missing, or what is ' +
      'damaged.'
  })),
  warnings: Type.Optional(Type.Array(Type.String(), {
    description: 'What may be wrong, but refuses nothing: a raw image that looks like one of another format, a base ' +
      'that was written after its overlay, as far as times show, or one that does not lie beside it, which is not ' +
      'looked at. Absent when there is nothing to say.'
  })),
  copy: Type.Optional(Ref(CopyProgress)),
  volumes: Type.Optional(Type.Array(Ref(Volume), { description: 'In domains of the layout `ovirt`: its volumes, the base first.' })),
  fixes: Type.Array(Ref(Fix)),
  observedAt: Time('When the storage was looked at.')
}, { $id: 'ImageStatus', description: 'What the storage says about an image.' })
export type ImageStatus = Static<typeof ImageStatus>

export const ImageEntry = Strict({
  image: ImageName,
  format: Type.Optional(Format),
  fileSize: Bytes('The length of the file.'),
  actualSize: Bytes('Bytes that the file takes up on the storage.'),
  modifiedAt: Time('When the file was last written.'),
  volumes: Type.Optional(Type.Integer({ description: 'In domains of the layout `ovirt`: how many volumes it has. Their sizes are added up.' }))
}, { $id: 'ImageEntry', description: 'An image as a look at the directory tells it, without opening it.' })
export type ImageEntry = Static<typeof ImageEntry>

export const BrokenImage = Strict({
  image: ImageName,
  volume: Type.Optional(VolumeId),
  state: ImageState,
  detail: Type.String(),
  fixes: Type.Array(Ref(Fix))
}, { $id: 'BrokenImage', description: 'An image that needs attention, and what would help.' })
export type BrokenImage = Static<typeof BrokenImage>
